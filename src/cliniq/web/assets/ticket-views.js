/** @file Draw the tickets, and the moment when one of them is called. */

import { otherVisits } from "./choice-views.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { peopleAhead, placeInLine, roomName } from "./words.js";

/**
 * @typedef {import("./tickets.js").Ticket} Ticket
 * @typedef {import("./live-client.js").LiveStatus | "asking"} Freshness
 */

const DOTS = 6;
const LONG_ROOM = 10;

/**
 * Lay the table for the tickets of this phone.
 * @param {object} choice
 * @param {boolean} choice.several
 * @param {import("./choice-views.js").Candidate[]} choice.others visits elsewhere or later today
 * @param {string} choice.note                  a sentence before the tickets, or nothing
 * @param {string} choice.name                  of who is signed in
 * @param {() => void} choice.onAnother
 * @param {() => void} choice.onSignOut
 */
export function ticketsView({ several, others, note, name, onAnother, onSignOut }) {
  return el(
    "section",
    { class: "step step-tickets" },
    el("h1", { class: "unseen" }, several ? "Your tickets" : "Your ticket"),
    note && el("p", { class: "note" }, icon("check"), note),
    el("div", { class: "tickets", id: "tickets" }),
    others.length > 0 && otherVisits("Also today", others),
    el(
      "div",
      { class: "aside" },
      el(
        "button",
        { type: "button", class: "button button-quiet", onclick: onAnother },
        "Check in another visit",
      ),
      el(
        "p",
        { class: "who" },
        name ? `Signed in as ${name}. ` : "",
        el("button", { type: "button", class: "link", onclick: onSignOut }, "Not you? Sign out"),
      ),
    ),
  );
}

/**
 * Draw one ticket.
 * @param {Ticket} ticket
 * @param {object} choice
 * @param {boolean} choice.several whether there are other tickets
 * @param {boolean} choice.moved   whether its place has just changed
 * @param {boolean} choice.hint    whether it says what to do while waiting
 */
export function ticketCard(ticket, { several, moved, hint }) {
  const title = `ticket-${ticket.entry_id}`;
  const mine = several && ticket.given_name ? ticket.given_name : "";
  const classes = ["ticket", `ticket-${ticket.status}`];
  if (several) classes.push("ticket-several");
  if (moved) classes.push("ticket-moved");
  return el(
    "article",
    { class: classes.join(" "), "aria-labelledby": title },
    el(
      "div",
      { class: "stub" },
      el(
        "div",
        { class: "stub-head" },
        el("span", { class: "stub-who" }, mine || ticket.clinic_name),
        el("span", { class: "fresh", "data-fresh": "" }),
      ),
      el(
        "h2",
        { id: title, class: "stub-number" },
        el("small", {}, "Ticket "),
        el("span", {}, String(ticket.number)),
      ),
      el("p", { class: "stub-doctor" }, ticket.line_name),
    ),
    el("div", { class: "fate" }, ...fateOf(ticket, hint).filter(isNode)),
  );
}

/**
 * Leave out what is not there.
 * @param {Node | false} item
 * @returns {item is Node}
 */
function isNode(item) {
  return item !== false;
}

/**
 * Say what is true of this ticket now.
 * @param {Ticket} ticket
 * @param {boolean} hint
 * @returns {(Node | false)[]}
 */
function fateOf(ticket, hint) {
  const doctor = ticket.line_name;
  const name = otherName(ticket);
  switch (ticket.status) {
    case "waiting":
      return [
        el("p", { class: "fate-title" }, placeInLine(ticket.position, name)),
        el("p", { class: "fate-words" }, peopleAhead(ticket.position, name)),
        lineOf(ticket.position, name || "You"),
        hint && el("p", { class: "fate-hint" }, hintFor(ticket.position)),
      ];
    case "called":
      return [
        el("p", { class: "fate-title" }, turnWords(ticket)),
        el("p", { class: "fate-room" }, ticket.room ? roomName(ticket.room) : "Please come in"),
        el("p", { class: "fate-words" }, doctor ? `${doctor} is expecting you.` : ""),
      ];
    case "in_progress":
      return [
        el("div", { class: "badge" }, icon("person")),
        el("p", { class: "fate-title" }, name ? `${name} is being seen` : "You are being seen"),
        el("p", { class: "fate-words" }, whereSeen(ticket)),
      ];
    case "completed":
      return [
        el("div", { class: "badge" }, icon("check")),
        el("p", { class: "fate-title" }, "All done"),
        el("p", { class: "fate-words" }, "Thank you for coming. We wish you well."),
      ];
    case "left":
      return [
        el("p", { class: "fate-title" }, "This ticket is no longer in the queue"),
        el("p", { class: "fate-words" }, "If you are still waiting, please tell the desk now."),
      ];
    default:
      return [
        el("p", { class: "fate-title" }, "One moment"),
        el("p", { class: "fate-words" }, "We are asking where this ticket stands."),
      ];
  }
}

/**
 * Say what to do while waiting.
 * @param {number} position
 */
function hintFor(position) {
  if (position === 1) return "Please stay close. This page turns yellow when it is time.";
  return "Leave this page open. It moves by itself, and turns yellow when it is time.";
}

/**
 * Say by whom and where.
 * @param {Ticket} ticket
 */
function whereSeen({ line_name, room }) {
  const place = room ? roomName(room) : "";
  return [line_name, place].filter(Boolean).join(", ");
}

/**
 * Draw the line: the door, those ahead, then the one whose ticket it is.
 * @param {number} position
 * @param {string} who
 */
function lineOf(position, who) {
  const ahead = position - 1;
  const drawn = Math.min(ahead, DOTS);
  const line = el("div", { class: "line", "aria-hidden": "true" });
  line.append(el("span", { class: "line-door" }, icon("door")));
  for (let i = 0; i < drawn; i += 1) line.append(el("i"));
  if (ahead > drawn) line.append(el("span", { class: "line-more" }, `+${ahead - drawn}`));
  line.append(el("span", { class: "line-you" }, who));
  return line;
}

/** @type {Record<string, {look: string, words: string}>} */
const FRESHNESS = {
  connecting: { look: "soon", words: "Connecting" },
  live: { look: "live", words: "Live" },
  reconnecting: { look: "lost", words: "Reconnecting" },
  asking: { look: "lost", words: "Not live" },
  closed: { look: "none", words: "" },
};

/**
 * Say on every ticket whether its place is live, and since when it is not.
 * @param {HTMLElement} root
 * @param {Freshness} freshness
 * @param {string} since the time of the last word from the clinic, or nothing
 */
export function showFreshness(root, freshness, since) {
  const { look, words } = FRESHNESS[freshness];
  for (const mark of root.querySelectorAll("[data-fresh]")) {
    mark.className = `fresh fresh-${look}`;
    mark.textContent = look === "lost" && since ? `${words}, as of ${since}` : words;
  }
}

/**
 * Fill the page with the call: nobody should miss it, or wonder where to go.
 * @param {{ticket: Ticket, onGoing: () => void}} choice
 */
export function turnView({ ticket, onGoing }) {
  const room = ticket.room ? roomName(ticket.room) : "Please come in";
  return el(
    "section",
    { class: "turn" },
    el("div", { class: "turn-rings", "aria-hidden": "true" }, el("i"), el("i"), el("i")),
    el("p", { class: "turn-ticket" }, `Ticket ${ticket.number}`),
    el("h1", {}, turnWords(ticket)),
    el(
      "p",
      { class: room.length > LONG_ROOM ? "turn-room turn-room-long" : "turn-room" },
      icon("door"),
      el("span", {}, room),
    ),
    el(
      "p",
      { class: "turn-doctor" },
      ticket.line_name ? `${ticket.line_name} is expecting you.` : "",
    ),
    el(
      "button",
      { type: "button", class: "button button-turn", onclick: onGoing },
      "I’m on my way",
    ),
  );
}

/**
 * Say whose turn it is.
 * @param {Ticket} ticket
 */
export function turnWords(ticket) {
  const name = otherName(ticket);
  return name ? `It’s ${name}’s turn` : "It’s your turn";
}

/**
 * Name the person of a ticket when it is not the reader.
 * @param {Ticket} ticket
 */
export function otherName(ticket) {
  return ticket.whose === "dependant" ? ticket.given_name : "";
}
