// Streamlit calls the function that a component returned when its element is gone from the page, and also when newer data
// overtook the loading of the component's code, while the element stays. What is kept for an element ends with it alone.

function whenGone(element, end) { return () => { if (!element.isConnected) end(); }; }
