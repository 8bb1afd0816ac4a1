/** @file Draw the doctor's little workplace. */

import { el } from "./dom.js";
import { roomName } from "./words.js";

/**
 * @typedef {import("./doctor.js").Line} Line
 * @typedef {import("./doctor.js").Entry} Entry
 * @typedef {"start" | "complete" | "no-show"} Verb
 */

/** @type {Record<Verb, string>} */
const LABELS = { start: "Start", complete: "Complete", "no-show": "Did not come" };

/**
 * Offer the demo's doctors.
 * @param {object} choice
 * @param {import("./checkin-views.js").DemoAccount[]} choice.accounts
 * @param {string} choice.words what went wrong before, or nothing
 * @param {(account: import("./checkin-views.js").DemoAccount) => void} choice.onSignIn
 */
export function doctorSignIn({ accounts, words, onSignIn }) {
  return el(
    "div",
    { class: "doctor-who" },
    words && el("p", { class: "alarm", role: "alert" }, words),
    !accounts.length && el("p", {}, "The demo has no doctor at the moment."),
    ...accounts.map((account) =>
      el(
        "button",
        { type: "button", class: "button button-quiet", onclick: () => onSignIn(account) },
        `Be ${account.label}`,
      ),
    ),
  );
}

/**
 * Lay out the workplace; the queues are drawn into it as they change.
 * @param {object} choice
 * @param {string} choice.name
 * @param {string} choice.clinic
 * @param {string} choice.room
 * @param {(room: string) => void} choice.onRoom
 * @param {() => void} choice.onSignOut
 */
export function doctorWorkplace({ name, clinic, room, onRoom, onSignOut }) {
  const input = el("input", { id: "room", value: room, maxlength: "20", autocomplete: "off" });
  input.addEventListener("input", () => onRoom(input.value.trim()));
  return el(
    "div",
    { class: "doctor-place" },
    el(
      "div",
      { class: "doctor-head" },
      el(
        "p",
        {},
        el("b", {}, name),
        el("small", {}, clinic, " "),
        el("button", { type: "button", class: "link", onclick: onSignOut }, "Sign out"),
      ),
      el("div", { class: "room" }, el("label", { for: "room" }, "Your room"), input),
    ),
    el("div", { id: "lines", class: "lines" }),
    el(
      "p",
      { id: "no-lines", class: "quiet" },
      "No queue yet today. It begins when the first patient checks in.",
    ),
    el("p", { id: "doctor-said", class: "doctor-said", role: "status" }),
  );
}

/**
 * Draw one queue: who waits, who is called, who is being seen.
 * @param {object} choice
 * @param {Line} choice.line
 * @param {boolean} choice.live
 * @param {(ticket: number) => Entry | undefined} choice.entryOf
 * @param {() => void} choice.onCall
 * @param {(entry: Entry, verb: Verb) => void} choice.onMove
 */
export function queueCard({ line, live, entryOf, onCall, onMove }) {
  const { queue, queue_id, line_name, waiting } = line;
  const title = `queue-${queue_id}`;
  const called = queue ? queue.called : [];
  const seen = queue ? queue.in_progress : [];
  return el(
    "article",
    { class: "queue", "aria-labelledby": title },
    el(
      "div",
      { class: "queue-head" },
      el("h4", { id: title }, line_name),
      el("span", { class: live ? "pulse pulse-live" : "pulse" }, live ? "Live" : "Connecting"),
    ),
    el(
      "div",
      { class: "queue-call" },
      el(
        "p",
        { class: "count" },
        el("b", {}, String(waiting)),
        el("span", {}, waiting === 1 ? " person waiting" : " people waiting"),
      ),
      el(
        "button",
        {
          type: "button",
          class: "button",
          id: `call-${queue_id}`,
          disabled: waiting === 0,
          onclick: onCall,
        },
        "Call next",
      ),
    ),
    queue && queue.waiting.length > 0 && waitingTickets(queue.waiting),
    called.length + seen.length > 0 &&
      el(
        "ul",
        { class: "moves" },
        ...called.map(({ ticket, room }) =>
          moveRow({ ticket, entry: entryOf(ticket), words: calledTo(room), verbs: ["start", "no-show"], onMove }),
        ),
        ...seen.map((ticket) =>
          moveRow({
            ticket,
            entry: entryOf(ticket),
            words: "being seen",
            verbs: ["complete"],
            onMove,
          }),
        ),
      ),
  );
}

/**
 * List the tickets that come next.
 * @param {number[]} tickets
 */
function waitingTickets(tickets) {
  const shown = tickets.slice(0, 12);
  const more = tickets.length - shown.length;
  return el(
    "p",
    { class: "next-up" },
    el("span", {}, "Next: "),
    ...shown.map((ticket) => el("span", { class: "next-ticket" }, `${ticket} `)),
    more > 0 && `and ${more} more`,
  );
}

/**
 * Say where a ticket was called to.
 * @param {string | null} room
 */
function calledTo(room) {
  return room ? `called to ${roomName(room)}` : "called";
}

/**
 * Draw a ticket that was called or is being seen, with the steps that may follow.
 * @param {object} choice
 * @param {number} choice.ticket
 * @param {Entry | undefined} choice.entry
 * @param {string} choice.words
 * @param {Verb[]} choice.verbs the likely one first
 * @param {(entry: Entry, verb: Verb) => void} choice.onMove
 */
function moveRow({ ticket, entry, words, verbs, onMove }) {
  return el(
    "li",
    { class: `move move-${verbs[0]}` },
    el("b", { class: "move-ticket" }, String(ticket)),
    el(
      "span",
      { class: "move-who" },
      el("span", {}, (entry && entry.patient_name) || "Patient"),
      el("small", {}, words),
    ),
    ...verbs.map(
      (verb, place) =>
        entry &&
        el(
          "button",
          {
            type: "button",
            class: place ? "button button-small button-quiet" : "button button-small",
            id: place ? `${verb}-${entry.entry_id}` : `move-${entry.entry_id}`,
            "aria-label": `${LABELS[verb]}: ticket ${ticket}`,
            onclick: () => onMove(entry, verb),
          },
          LABELS[verb],
        ),
    ),
  );
}
