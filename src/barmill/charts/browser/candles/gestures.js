// Mouse, touch and key events on the canvas, converted to panning, zooming and crosshair positions.

const KEYS_HELP = [
  ["Left, Right", "scroll"], ["+, −", "zoom"], ["Home", "oldest loaded bar"], ["End", "newest bar, and follow it"], ["0", "usual zoom"],
  ["Shift + Left, Right", "read bar by bar"], ["Escape", "stop reading"], ["Wheel, pinch", "zoom"], ["Drag", "scroll"], ["Double click", "usual zoom"],
];

class Gestures {
  // acts: pan(slots), zoom(factor, share), point({x, y} or null), step(bars, or 0 to stop), home(), newest(), reset().
  constructor(canvas, seen, acts, signal) {
    this.canvas = canvas;
    this.seen = seen;
    this.acts = acts;
    this.grips = new Map();
    const on = (type, act, options) => canvas.addEventListener(type, act, {signal, ...options});
    on("wheel", (event) => this.wheel(event), {passive: false});
    on("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.grips.set(event.pointerId, {x: event.offsetX, y: event.offsetY});
    });
    for (const type of ["pointerup", "pointercancel"]) on(type, (event) => this.grips.delete(event.pointerId));
    on("pointermove", (event) => this.moved(event));
    on("pointerleave", () => acts.point(null));
    on("dblclick", () => acts.reset());
    on("keydown", (event) => this.key(event));
  }

  wheel(event) {
    event.preventDefault();
    const seen = this.seen();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.acts.pan((event.deltaX || event.deltaY) / seen.width * seen.span);
    } else this.acts.zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) / 500), event.offsetX / seen.width);
  }

  moved(event) {
    const seen = this.seen(), at = {x: event.offsetX, y: event.offsetY}, before = this.grips.get(event.pointerId);
    if (before) {
      this.grips.set(event.pointerId, at);
      const other = [...this.grips].find(([id]) => id !== event.pointerId)?.[1];
      const share = other ? 0.5 : 1; // with two fingers, each finger moves the chart by half
      this.acts.pan((before.x - at.x) * share / seen.width * seen.span);
      if (other) {
        const apart = (one) => Math.max(10, Math.abs(one.x - other.x), Math.abs(one.y - other.y));
        this.acts.zoom(apart(before) / apart(at), (at.x + other.x) / 2 / seen.width);
      }
    }
    this.acts.point(event.pointerType === "touch" && this.grips.size > 1 ? null : at);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const {acts} = this, tenth = this.seen().span / 10, bars = event.shiftKey && 1;
    const act = {
      ArrowLeft: () => (bars ? acts.step(-1) : acts.pan(-tenth)), ArrowRight: () => (bars ? acts.step(1) : acts.pan(tenth)),
      "+": () => acts.zoom(0.8, 1), "-": () => acts.zoom(1.25, 1), Escape: () => acts.step(0),
      End: acts.newest, Home: acts.home, 0: acts.reset,
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}
