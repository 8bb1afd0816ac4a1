/**
 * @file Draw the icons: strokes of a pen on a field of 24 by 24.
 *
 * They are code and not a file of their own, because the one that says "no connection" has to be
 * there when there is none.
 */

const SVG = "http://www.w3.org/2000/svg";
const STROKE = {
  fill: "none",
  stroke: "currentColor",
  "stroke-width": "2",
  "stroke-linecap": "round",
  "stroke-linejoin": "round",
};

const CIRCLE = "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18Z";

/** @type {Record<string, string>} */
const STROKES = {
  alert: `${CIRCLE}M12 7.5V13M12 16.5v.01`,
  arrow: "M5 12h14M13 6l6 6-6 6",
  bell: "M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 2h-15ZM10 21h4",
  calendar:
    "M6.5 5h11a3 3 0 0 1 3 3v9.5a3 3 0 0 1-3 3h-11a3 3 0 0 1-3-3V8a3 3 0 0 1 3-3ZM3.5 10h17M8 2.8v4M16 2.8v4",
  check: "M5 12.8 10 18 19.5 6.5",
  clock: `${CIRCLE}M12 7v5.2l3.3 2`,
  desk: "M3.5 17.5h17M5 17.5a7 7 0 0 1 14 0M12 10.5V8M10 8h4M3.5 20.5h17",
  door: "M6 21V4.5A1.5 1.5 0 0 1 7.5 3h9A1.5 1.5 0 0 1 18 4.5V21M3.5 21h17M14 12v.6",
  key: "M8 10.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9ZM11.2 11.8 20.5 2.5M16 7l3 3",
  mute: "M6 16.5V11a6 6 0 0 1 9-5.2M18 12v4.5l1.5 2h-12M10 21h4M3.5 3.5l17 17",
  offline:
    "M3 3l18 18M8.6 15.3a5 5 0 0 1 6.3-.4M5.2 11.7a10 10 0 0 1 4.3-2.3M2.2 8.3A14.5 14.5 0 0 1 6 5.9M13.5 9.1a10 10 0 0 1 5.3 2.6M10.3 4.6a14.6 14.6 0 0 1 11.5 3.7M12 19h.01",
  person: "M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8ZM4.5 20.5c.8-4 3.7-6 7.5-6s6.7 2 7.5 6",
  phone: "M8 2.5h8a2 2 0 0 1 2 2v15a2 2 0 0 1-2 2H8a2 2 0 0 1-2-2v-15a2 2 0 0 1 2-2ZM11 18h2",
  pin: "M12 21.5c4.6-4.6 7-8.3 7-11.5a7 7 0 0 0-14 0c0 3.2 2.4 6.9 7 11.5ZM12 7.4a2.6 2.6 0 1 1 0 5.2 2.6 2.6 0 0 1 0-5.2Z",
  qr: "M5 3.5h3.5A1.5 1.5 0 0 1 10 5v3.5A1.5 1.5 0 0 1 8.5 10H5a1.5 1.5 0 0 1-1.5-1.5V5A1.5 1.5 0 0 1 5 3.5ZM15.5 3.5H19A1.5 1.5 0 0 1 20.5 5v3.5A1.5 1.5 0 0 1 19 10h-3.5A1.5 1.5 0 0 1 14 8.5V5a1.5 1.5 0 0 1 1.5-1.5ZM5 14h3.5a1.5 1.5 0 0 1 1.5 1.5V19a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 19v-3.5A1.5 1.5 0 0 1 5 14ZM14 14h2.5v2.5M20.5 14v.01M20.5 18v2.5H18M14 20.5v-.01",
  shield: "M12 3 4.5 6v5.5c0 4.6 3 7.9 7.5 9.5 4.5-1.6 7.5-4.9 7.5-9.5V6ZM8.8 12l2.3 2.4 4.2-4.6",
  touch:
    "M9.5 12.5V5a1.8 1.8 0 0 1 3.6 0v6l4.7 1a2.2 2.2 0 0 1 1.7 2.5l-.6 3.6a3.6 3.6 0 0 1-3.5 3H12a4 4 0 0 1-3.2-1.6l-3.3-4.4a1.7 1.7 0 0 1 2.5-2.3Z",
};

/**
 * Draw an icon; it is decoration, the words beside it carry the meaning.
 * @param {string} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const stroke = document.createElementNS(SVG, "path");
  stroke.setAttribute("d", STROKES[name]);
  for (const [key, value] of Object.entries(STROKE)) stroke.setAttribute(key, value);
  const svg = ornament("icon");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.append(stroke);
  return svg;
}

/**
 * Show the picture of somebody arriving; the page's colours paint it.
 * @returns {SVGElement}
 */
export function arrivalPicture() {
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", "/assets/picture.svg#arrival");
  const svg = ornament("picture");
  svg.append(use);
  return svg;
}

/**
 * Begin a drawing that a screen reader passes by.
 * @param {string} className
 */
function ornament(className) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  return svg;
}
