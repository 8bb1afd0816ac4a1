/** @file Show one view at a time, move the focus to it, and speak to those who listen. */

import { byId } from "./dom.js";

/**
 * Put a view on the page.
 * @param {HTMLElement} view its first heading takes the focus, so that a screen reader begins there
 * @param {{mood?: "calm" | "turn", title?: string, focus?: boolean}} [choice]
 */
export function show(view, { mood = "calm", title = "Check in", focus = true } = {}) {
  byId("view").replaceChildren(view);
  setMood(mood);
  setTitle(title);
  window.scrollTo(0, 0);
  const heading = view.querySelector("h1");
  if (focus && heading) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
}

/**
 * Name the tab.
 * @param {string} title
 */
export function setTitle(title) {
  document.title = `${title} · Cliniq`;
}

/**
 * Colour the page, and the browser around it.
 * @param {"calm" | "turn"} mood
 */
function setMood(mood) {
  document.documentElement.dataset.mood = mood;
  for (const meta of document.querySelectorAll('meta[name="theme-color"]')) {
    const node = /** @type {HTMLMetaElement} */ (meta);
    node.dataset.calm = node.dataset.calm || node.content;
    node.content = mood === "turn" ? "#ffc53d" : node.dataset.calm;
  }
}

/**
 * Say where the person is, in the head of the page.
 * @param {string} place
 */
export function setPlace(place) {
  byId("place").textContent = place;
}

/**
 * Speak when there is a pause.
 * @param {string} sentence
 */
export function say(sentence) {
  speak("said", sentence);
}

/**
 * Speak at once.
 * @param {string} sentence
 */
export function callOut(sentence) {
  speak("called-out", sentence);
}

/**
 * Put a sentence into a region that screen readers listen to.
 * @param {string} id
 * @param {string} sentence
 */
function speak(id, sentence) {
  const region = byId(id);
  // The same words twice are only heard twice when the region was empty in between.
  region.textContent = "";
  setTimeout(() => (region.textContent = sentence), 60);
}
