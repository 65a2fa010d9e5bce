// Streamlit calls a component's cleanup function when its element leaves the page, and also when newer data arrives
// while the component's code loads, although the element stays. This cleanup runs only in the first case.

function whenGone(element, end) { return () => { if (!element.isConnected) end(); }; }
