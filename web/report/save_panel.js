// Save a panel as a picture: SVG, or PNG with twice the resolution.

import { make, on } from "../shared/elements.js";

const RESOLUTION = 2;

/** A menu with the formats of a picture. name() has no extension; draw() returns {svg: text, width, height}. */
export function saveButton(name, draw) {
  const menu = make("details", { class: "save" });
  const item = (format, save) =>
    make(
      "button",
      {
        type: "button",
        onclick: () => {
          menu.open = false;
          save(`${name()}.${format.toLowerCase()}`, draw());
        },
      },
      format,
    );
  menu.append(
    make("summary", { "aria-label": "Save this panel as a picture", title: "Save as a picture" }, "⤓"),
    make("span", { class: "formats" }, item("SVG", saveSvg), item("PNG", savePng)),
  );
  on(menu, "focusout", (event) => {
    if (!menu.contains(event.relatedTarget)) menu.open = false;
  });
  return menu;
}

const addressOf = (svg) => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;

function saveSvg(name, { svg }) {
  download(name, addressOf(svg));
}

function savePng(name, { svg, width, height }) {
  const picture = new Image();
  on(picture, "load", () => {
    const canvas = make("canvas", { width: RESOLUTION * width, height: RESOLUTION * height });
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    download(name, canvas.toDataURL("image/png"));
  });
  picture.src = addressOf(svg);
}

function download(name, href) {
  make("a", { href, download: name }).click();
}
