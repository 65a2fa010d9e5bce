// What a test asks of any page: does it fit, does the focus show, and does Tab come to everything.
window.everyPage = {
  reached: new Set(),

  name(one) {
    const said = one.ariaLabel ?? one.textContent.trim().slice(0, 40);
    return `${one.tagName} ${said} ${one.dataset.testid ?? ""} ${one.className?.baseVal ?? one.className}`;
  },

  // What is wider than its place, and what in it reaches beyond the window. One pixel is rounding.
  overflow() {
    const places = document.querySelectorAll("[data-testid=stMain], [data-testid=stSidebarContent]");
    return [document.scrollingElement, ...places]
      .filter((one) => one.getBoundingClientRect().width > 60 && one.scrollWidth > one.clientWidth + 1)
      .map((one) => {
        const beyond = [...one.querySelectorAll("*")].filter((inner) => inner.getBoundingClientRect().right > innerWidth + 1);
        return `${one.scrollWidth} > ${one.clientWidth}: ${beyond.slice(0, 3).map(this.name).join(", ")}`;
      });
  },

  painted() {
    return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  },

  // The look once it is another, or at the end of a second: a page that is busy shows a focus only after some frames.
  async changed(look, before) {
    for (let frame = 0; frame < 30 && look() === before; frame += 1) await this.painted();
    return look();
  },

  // Which element has the focus, whether it had it before, and whether anything about it looks different for it.
  async focused() {
    const one = document.activeElement;
    if (!one || one === document.body) return null;
    const around = [one, one.nextElementSibling];
    for (let each = one.parentElement; each && around.length < 10; each = each.parentElement) around.push(each);
    const look = () => JSON.stringify(around.map((each) => {
      if (!each) return null;
      const {outline, boxShadow, borderColor, backgroundColor, color, textDecoration, opacity} = getComputedStyle(each);
      return [outline, boxShadow, borderColor, backgroundColor, color, textDecoration, opacity];
    }));
    await this.painted();
    const seen = look();
    one.blur();
    const plain = await this.changed(look, seen);
    one.focus({preventScroll: true, focusVisible: true});
    const visible = seen !== plain || (await this.changed(look, plain)) !== plain;
    const again = this.reached.has(one);
    this.reached.add(one);
    // A table hands the focus on to one of its cells when new data comes, perhaps before anything asks where it is.
    this.reached.add(one.closest("canvas") ?? one);
    // The cells that a table keeps for screen readers are never painted; the table around them shows the focus.
    return {again, visible: visible || Boolean(one.parentElement.closest("canvas")), name: this.name(one)};
  },

  // What Tab should have come to. Of a group of buttons that is one; arrows reach the others.
  unreached() {
    const inGroup = (one) => [...(one.closest("[role=radiogroup], [role=toolbar]")?.querySelectorAll("*") ?? [])];
    return [...document.querySelectorAll("a[href], button, input, select, textarea, canvas, [tabindex]")]
      .filter((one) => one.tabIndex >= 0 && !one.disabled && !one.closest("[inert], [aria-hidden=true]"))
      .filter((one) => one.checkVisibility({visibilityProperty: true}) && one.getClientRects().length)
      .filter((one) => !this.reached.has(one) && !inGroup(one).some((each) => this.reached.has(each)))
      .map(this.name);
  },
};
