// Plays the steps in the order of the computation: forward, then backward.

import { byId } from "../shared/elements.js";

export class Player {
  constructor(context, { choose, setMode, changed }) {
    Object.assign(this, { context, choose, setMode, changed });
    this.on = false;
  }

  toggle() {
    if (this.on) return this.stop();
    this.on = true;
    if (this.atEnd() && !this.continuesBackward()) this.rewind();
    this.last = performance.now();
    document.documentElement.classList.add("playing");
    this.frame = requestAnimationFrame((now) => this.tick(now));
    this.changed();
  }

  stop() {
    this.on = false;
    cancelAnimationFrame(this.frame);
    document.documentElement.classList.remove("playing");
    this.changed();
  }

  tick(now) {
    const wait = 1000 / Number(byId("speed").value);
    if (now - this.last >= wait) {
      this.last = Math.max(now - wait, this.last + wait);
      this.advance();
    }
    if (this.on) this.frame = requestAnimationFrame((then) => this.tick(then));
  }

  advance() {
    if (!this.atEnd()) this.choose({ step: this.next() });
    else if (this.continuesBackward()) this.setMode("backward");
    else this.stop();
  }

  /** The next step of the computation. */
  next() {
    const { context } = this;
    const t = context.state.step;
    return context.backward ? context.before(t) : context.after(t);
  }

  atEnd() {
    return !this.context.has(this.next());
  }

  continuesBackward() {
    return !this.context.backward && this.context.hasGradients;
  }

  rewind() {
    this.setMode("forward");
    this.choose({ step: this.context.direction.reverse ? this.context.T - 1 : 0 });
  }
}
