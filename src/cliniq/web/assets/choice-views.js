/** @file Draw the visits of today: those that can begin here and now, and why the others cannot. */

import { backTo } from "./checkin-views.js";
import { el } from "./dom.js";
import { timeOf, whenIs } from "./words.js";

/**
 * @typedef {object} Candidate
 * @property {string} appointment_id
 * @property {string} given_name
 * @property {"self" | "dependant"} whose
 * @property {string} starts_at
 * @property {string} practitioner_name
 * @property {string} site_name
 * @property {"eligible" | "too_early" | "wrong_location" | "already" |
 *   "waiting" | "expired"} verdict
 * @property {string} opens_at
 * @property {string} closes_at
 */

/**
 * Say why a visit cannot be checked in here and now; nothing when it can.
 * @param {Candidate} candidate
 */
export function reasonOf({ verdict, opens_at, closes_at, site_name }) {
  switch (verdict) {
    case "eligible":
      return "";
    case "too_early":
      return `Check-in opens ${whenIs(opens_at)}`;
    case "wrong_location":
      return `Check in at ${site_name}`;
    case "already":
    case "waiting":
      return "Already checked in";
    case "expired":
      return `Check-in closed ${whenIs(closes_at)}. Ask at the desk`;
    default:
      return "Ask at the desk";
  }
}

/**
 * Let a person say which of today's visits begin now.
 * @param {object} choice
 * @param {Candidate[]} choice.candidates
 * @param {(appointmentIds: string[]) => void} choice.onChosen
 * @param {(() => void) | null} choice.onBack to tickets that are already there
 */
export function choiceView({ candidates, onChosen, onBack }) {
  const button = el("button", { type: "submit", class: "button" });
  const form = el("form", { class: "choices", method: "post" });
  const chosen = () => new FormData(form).getAll("appointment").map(String);
  const count = () => {
    const number = chosen().length;
    button.textContent = number ? `Check in selected (${number})` : "Select at least one";
    button.disabled = number === 0;
  };
  const early = candidates.filter((candidate) => candidate.verdict !== "eligible");
  const ready = candidates.filter((candidate) => candidate.verdict === "eligible");
  form.append(
    el(
      "fieldset",
      {},
      el("legend", { class: "unseen" }, "Visits to check in"),
      ...ready.map(candidateRow),
    ),
  );
  if (early.length) form.append(otherVisits("Not at this door, or not now", early));
  form.append(el("div", { class: "choices-do" }, button));
  form.addEventListener("change", count);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onChosen(chosen());
  });
  count();
  return el(
    "section",
    { class: "step" },
    el("h1", {}, "Who is checking in?"),
    el("p", { class: "lead" }, "We found more than one visit today. Untick what is not for now."),
    form,
    backTo(onBack),
  );
}

/**
 * Offer a visit that can begin now, ticked.
 * @param {Candidate} candidate
 */
function candidateRow(candidate) {
  return el(
    "label",
    { class: "visit" },
    el("input", {
      type: "checkbox",
      name: "appointment",
      value: candidate.appointment_id,
      checked: true,
    }),
    visitWords(candidate),
  );
}

/**
 * List the visits of today that are elsewhere, later or over.
 * @param {string} title
 * @param {Candidate[]} candidates
 */
export function otherVisits(title, candidates) {
  return el(
    "div",
    { class: "visits-other" },
    el("h2", {}, title),
    el(
      "ul",
      {},
      ...candidates.map((candidate) =>
        el("li", { class: "visit visit-not" }, visitWords(candidate)),
      ),
    ),
  );
}

/**
 * Say who is seen when and by whom, and why not now.
 * @param {Candidate} candidate
 */
function visitWords(candidate) {
  const reason = reasonOf(candidate);
  const who = candidate.whose === "self" ? `${candidate.given_name} (you)` : candidate.given_name;
  return el(
    "span",
    { class: "visit-words" },
    el(
      "span",
      { class: "visit-who" },
      el("b", {}, who),
      el("time", { datetime: candidate.starts_at }, timeOf(candidate.starts_at)),
    ),
    el("span", { class: "visit-doctor" }, candidate.practitioner_name),
    reason && el("span", { class: "visit-reason" }, reason),
  );
}
