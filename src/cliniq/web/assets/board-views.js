/** @file Draw a waiting room's board: tickets and rooms, never people. */

import { el } from "./dom.js";

/**
 * @typedef {import("./calls.js").Call} Call
 * @typedef {import("./calls.js").Line} Line
 * @typedef {import("./board-words.js").Words} Words
 */

const MOST_NEXT = 5;

/**
 * Draw a called ticket.
 * @param {Call} call
 * @param {boolean} fresh
 * @param {Words} words
 */
export function calledTicket({ ticket, line_name, room }, fresh, words) {
  return el(
    "li",
    { class: fresh ? "now-call now-fresh" : "now-call" },
    el("b", { class: "now-ticket" }, String(ticket)),
    el(
      "span",
      { class: "now-where" },
      el("span", { class: "now-room" }, room ? words.room(room) : ""),
      el("span", { class: "now-line" }, el("bdi", {}, line_name)),
    ),
  );
}

/**
 * Draw who comes next in a line.
 * @param {Line} line
 */
export function nextInLine({ line_name, queue }) {
  const more = queue.waiting.length - MOST_NEXT;
  return el(
    "li",
    { class: "next-line" },
    el("span", { class: "next-name" }, el("bdi", {}, line_name)),
    el(
      "span",
      { class: "next-tickets" },
      ...queue.waiting.slice(0, MOST_NEXT).map((ticket) => el("b", {}, String(ticket))),
      more > 0 && el("small", {}, `+${more}`),
    ),
  );
}

/**
 * Ask whoever hangs the board up to sign in.
 * @param {Words} words
 * @param {string} trouble
 * @param {(email: string, password: string) => void} onSignIn
 */
export function boardSignIn(words, trouble, onSignIn) {
  const email = el("input", { type: "email", id: "email", autocomplete: "username", required: true });
  const password = el("input", {
    type: "password",
    id: "password",
    autocomplete: "current-password",
    required: true,
  });
  const form = el(
    "form",
    { class: "board-form" },
    trouble && el("p", { class: "alarm", role: "alert" }, trouble),
    el("label", { for: "email" }, words.email),
    email,
    el("label", { for: "password" }, words.password),
    password,
    el("button", { type: "submit", class: "button" }, words.signIn),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onSignIn(email.value.trim(), password.value);
  });
  return form;
}
