// What a field does with a value that is not valid: it names the rule, next to the field and for screen readers.

import { byId, setText } from "../shared/elements.js";
import { hideReadOut, showReadOut } from "./map_panel.js";

const SHOWN_MS = 6000;
let timer = 0;

/** Return whether the value of a field is valid. If it is not, display "<rule>, got <value>" for a while. */
export function checkField(field, isValid, rule, value = field.value) {
  field.ariaInvalid = String(!isValid);
  clearTimeout(timer);
  hideReadOut();
  if (isValid) return true;
  const { left, top, height } = field.getBoundingClientRect();
  const text = `${rule}, got ${value || "no number"}`;
  showReadOut({ clientX: left, clientY: top, below: height + 6 }, text);
  setText(byId("announcement"), text);
  timer = setTimeout(() => {
    hideReadOut();
    field.ariaInvalid = "false";
  }, SHOWN_MS);
  return false;
}
