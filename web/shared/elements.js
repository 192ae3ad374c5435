// Helpers for elements of a page.

const SVG = "http://www.w3.org/2000/svg";

/** An element: make("p", {class: "note"}, "text", child, …). */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) on(element, name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Call `listener` at each event of an element, or of another source of events. */
export function on(source, event, listener, options) {
  source.addEventListener(event, listener, options);
}

export function byId(id) {
  return document.getElementById(id);
}

/** Text is only written where it is another one: the browser then has nothing to lay out. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
