/**
 * @file Tell a person what a refusal means and what to do next: one entry for every code.
 *
 * Nobody at a door should have to read a code, and nobody is left without a next step.
 */

import { NetworkFailure, Problem } from "./api.js";
import { roomName, sentenceCase, untilThen, whenIs } from "./words.js";

/**
 * @typedef {"again" | "account" | "place" | null} NextStep what the page's button does
 *
 * @typedef {object} Trouble
 * @property {string} icon
 * @property {string} title
 * @property {string[]} sentences
 * @property {NextStep} step
 * @property {string} [label]                    of the button
 * @property {boolean} [quiet]                   whether the button is only one way among others
 * @property {{term: string, text: string, counts?: boolean}[]} [facts]
 *   `counts` marks one that changes while it is read
 * @property {{label: string, href: string}} [link]
 * @property {string} [opensAt]                  an instant worth waiting for
 * @property {number} [waitSeconds]              how long the button rests
 * @property {string} [reference]                what the desk or support may ask for
 */

/** @type {Map<string, (facts: Record<string, any>, now: Date) => Trouble>} */
const TOLD = new Map([
  ["QR_INVALID", tellUnknownCode],
  ["QR_EXPIRED", tellExpiredCode],
  ["NO_APPOINTMENT_FOUND", tellNoAppointment],
  ["ALREADY_CHECKED_IN", tellAlreadyIn],
  ["WRONG_LOCATION", tellWrongLocation],
  ["CHECKIN_TOO_EARLY", tellTooEarly],
  ["APPOINTMENT_EXPIRED", tellClosed],
  ["VERIFICATION_REQUIRED", tellVerification],
  ["RATE_LIMIT_EXCEEDED", tellPause],
]);

/**
 * Turn whatever went wrong into words and a next step.
 * @param {unknown} failure
 * @param {Date} [now]
 * @returns {Trouble}
 */
export function tell(failure, now = new Date()) {
  if (failure instanceof NetworkFailure) return tellNoNetwork();
  if (!(failure instanceof Problem)) return tellOurFault(undefined);
  const told = TOLD.get(failure.code);
  return told ? told(failure.facts, now) : tellOurFault(failure.facts.trace_id);
}

/**
 * Tell that nothing was reached, and that nothing has to be done about it.
 * @returns {Trouble}
 */
function tellNoNetwork() {
  return {
    icon: "offline",
    title: "No connection",
    sentences: [
      "Your phone could not reach the clinic. Check the Wi-Fi or mobile signal.",
      "We try again by ourselves as soon as the network is back.",
    ],
    step: "again",
    label: "Try again",
  };
}

/**
 * Tell that the fault is ours.
 * @param {string | undefined} reference
 * @returns {Trouble}
 */
function tellOurFault(reference) {
  return {
    icon: "alert",
    title: "Something went wrong on our side",
    sentences: ["It is not your fault, and nothing is lost. Please try once more."],
    step: "again",
    label: "Try again",
    reference,
  };
}

/**
 * Tell QR_INVALID: forged, unknown or badly read.
 * @returns {Trouble}
 */
function tellUnknownCode() {
  return {
    icon: "qr",
    title: "We don’t know this code",
    sentences: [
      "Please scan the code at the door once more, with the whole square in the picture.",
      "If that does not help, the poster may be an old one. The desk would like to know.",
    ],
    step: null,
  };
}

/**
 * Tell QR_EXPIRED: rotated out.
 * @returns {Trouble}
 */
function tellExpiredCode() {
  return {
    icon: "clock",
    title: "This code has expired",
    sentences: [
      "The code on the screen changes all the time, so that only people who are here can use it.",
      "Please scan the code at the door again.",
    ],
    step: null,
  };
}

/**
 * Tell NO_APPOINTMENT_FOUND, and when the next one is.
 * @param {Record<string, any>} facts
 * @param {Date} now
 * @returns {Trouble}
 */
function tellNoAppointment({ next_at }, now) {
  const next = next_at
    ? `Your next appointment is ${whenIs(next_at, now)}.`
    : "We see no later appointment either.";
  return {
    icon: "calendar",
    title: "No appointment here today",
    sentences: [next, "If you booked under another e-mail address, sign in with that one."],
    step: "account",
    label: "Use another account",
  };
}

/**
 * Tell ALREADY_CHECKED_IN: the visit is in progress or over.
 * @returns {Trouble}
 */
function tellAlreadyIn() {
  return {
    icon: "check",
    title: "This visit has already begun",
    sentences: ["You were checked in before, and the visit is under way or over."],
    step: "place",
    label: "See my visits",
  };
}

/**
 * Tell WRONG_LOCATION, and the way to the right one.
 * @param {Record<string, any>} facts
 * @returns {Trouble}
 */
function tellWrongLocation({ site_name, room, address, directions_url }) {
  const facts = [
    { term: "Place", text: site_name },
    { term: "Room", text: room ? roomName(room) : "" },
    { term: "Address", text: address },
  ].filter((fact) => fact.text);
  return {
    icon: "pin",
    title: "Your visit is at another place",
    sentences: ["You have an appointment today, but not at this door. Please check in there:"],
    step: null,
    facts,
    link: webAddress(directions_url)
      ? { label: "Show me the way", href: directions_url }
      : undefined,
  };
}

/**
 * Accept only an address that a map can have; a link that runs code is none.
 * @param {unknown} address
 */
function webAddress(address) {
  return typeof address === "string" && /^https?:\/\//i.test(address);
}

/**
 * Tell CHECKIN_TOO_EARLY, and from when on it works.
 * @param {Record<string, any>} facts
 * @param {Date} now
 * @returns {Trouble}
 */
function tellTooEarly({ opens_at }, now) {
  const when = whenIs(opens_at, now);
  const facts = [
    { term: "Check-in opens", text: sentenceCase(when) },
    { term: "That is", text: sentenceCase(untilThen(opens_at, now)), counts: true },
  ].filter((fact) => fact.text);
  return {
    icon: "clock",
    title: "You’re early",
    sentences: ["Take a seat, and leave this page open if you like: it tells you when it is time."],
    facts,
    step: "again",
    label: "Check again",
    quiet: true,
    opensAt: opens_at,
  };
}

/**
 * Say that the wait for the opening is over.
 * @returns {Trouble}
 */
export function tellOpen() {
  return {
    icon: "check",
    title: "Check-in is open now",
    sentences: ["Tap to take your place in the queue."],
    step: "again",
    label: "Check in now",
  };
}

/**
 * Say that no ticket of this person is open.
 * @returns {Trouble}
 */
export function tellNoTicket() {
  return {
    icon: "calendar",
    title: "No open ticket",
    sentences: [
      "None of your visits is in a queue at the moment.",
      "If you are still waiting for somebody, please tell the desk now.",
    ],
    step: "again",
    label: "Check in again",
    quiet: true,
  };
}

/**
 * Tell APPOINTMENT_EXPIRED: the desk can help.
 * @param {Record<string, any>} facts
 * @param {Date} now
 * @returns {Trouble}
 */
function tellClosed({ closed_at }, now) {
  const when = closed_at ? ` closed ${whenIs(closed_at, now)}` : " has closed";
  return {
    icon: "clock",
    title: "Check-in has closed",
    sentences: [
      `Check-in for your visit${when}.`,
      "Please go to the desk. They can still find a place for you, or a new time.",
    ],
    step: null,
  };
}

/**
 * Tell VERIFICATION_REQUIRED: the step that this door asks for.
 * @param {Record<string, any>} facts
 * @returns {Trouble}
 */
function tellVerification({ step }) {
  if (step === "display") {
    return {
      icon: "qr",
      title: "Please scan the screen inside",
      sentences: [
        "This clinic makes sure that you are really here.",
        "Scan the code on the screen inside. It looks like this one, and it changes all the time.",
      ],
      step: null,
    };
  }
  return {
    icon: "person",
    title: "Please say hello at the desk",
    sentences: [
      "This clinic would like to see you in person before you take your place.",
      "It takes a moment, and you do not have to scan again.",
    ],
    step: null,
  };
}

/**
 * Tell RATE_LIMIT_EXCEEDED, and count the seconds.
 * @param {Record<string, any>} facts
 * @returns {Trouble}
 */
function tellPause({ retry_after_seconds }) {
  return {
    icon: "clock",
    title: "One moment, please",
    sentences: ["That was tried many times in a row. You can try again shortly."],
    step: "again",
    label: "Try again",
    waitSeconds: Math.max(1, Math.ceil(Number(retry_after_seconds) || 30)),
  };
}
