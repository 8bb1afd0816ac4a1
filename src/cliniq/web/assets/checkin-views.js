/** @file Draw the steps up to the check-in: the tap, signing in, choosing, and every refusal. */

import { el, icon } from "./dom.js";
import { timeOf, whenIs } from "./words.js";

/** @typedef {{email: string, password: string, label: string, role: string}} DemoAccount */

/**
 * Offer the tap. Until it comes, nothing has happened.
 * @param {{name: string, hasTickets: boolean, onCheckIn: () => void, onSeeTickets: () => void}} choice
 */
export function startView({ name, hasTickets, onCheckIn, onSeeTickets }) {
  return el(
    "section",
    { class: "step step-start" },
    icon("arrival", "picture"),
    el("h1", {}, name ? `Hello ${name}.` : "Good to see you."),
    el("p", { class: "lead" }, "Tap once, and you have your place in the queue."),
    el(
      "button",
      { type: "button", class: "button button-arrive", onclick: onCheckIn },
      el("span", { class: "arrive-here" }, "I’m here: "),
      el("span", { class: "arrive-do" }, "check in"),
    ),
    hasTickets &&
      el(
        "button",
        { type: "button", class: "button button-quiet", onclick: onSeeTickets },
        "See my place in the queue",
      ),
    el(
      "ul",
      { class: "promises" },
      promise("touch", "You are checked in only when you tap."),
      promise("shield", "Checking in is free. We never ask for a card here."),
    ),
  );
}

/**
 * @param {string} picture
 * @param {string} text
 */
function promise(picture, text) {
  return el("li", {}, icon(picture), el("span", {}, text));
}

/**
 * Show that something is under way.
 * @param {string} words
 */
export function workingView(words) {
  return el(
    "section",
    { class: "step step-working" },
    el("div", { class: "breath", "aria-hidden": "true" }, el("i"), el("i"), el("i")),
    el("h1", {}, words),
  );
}

/**
 * Ask who this is. The scan is already kept, so there is no hurry.
 * @param {object} choice
 * @param {boolean} choice.again                      whether a session has just ended
 * @param {DemoAccount[]} choice.demo
 * @param {(email: string, password: string) => Promise<string>} choice.onSignIn answers what went
 *   wrong, or nothing
 */
export function signInView({ again, demo, onSignIn }) {
  const alarm = el("p", { class: "alarm", role: "alert", id: "sign-in-alarm", hidden: true });
  const email = el("input", {
    id: "email",
    name: "email",
    type: "email",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
  });
  const password = el("input", {
    id: "password",
    name: "password",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const submit = el("button", { type: "submit", class: "button" }, "Sign in and check in");
  const form = el(
    "form",
    { class: "fields", novalidate: true, method: "post" },
    field("E-mail", email),
    field("Password", password, revealFor(password)),
    alarm,
    submit,
  );
  const chips = el("div", { class: "chips" });

  /**
   * @param {string} address
   * @param {string} secret
   */
  async function signIn(address, secret) {
    const buttons = [submit, ...chips.querySelectorAll("button")];
    for (const button of buttons) button.disabled = true;
    submit.textContent = "Signing in…";
    const wrong = await onSignIn(address, secret);
    if (!wrong) return;
    for (const button of buttons) button.disabled = false;
    submit.textContent = "Sign in and check in";
    complain(wrong, password);
  }

  /**
   * @param {string} words
   * @param {HTMLInputElement} input
   */
  function complain(words, input) {
    alarm.textContent = words;
    alarm.hidden = false;
    for (const each of [email, password]) each.removeAttribute("aria-describedby");
    input.setAttribute("aria-describedby", "sign-in-alarm");
    input.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    alarm.hidden = true;
    if (!email.value.trim()) complain("Please type your e-mail address.", email);
    else if (!password.value) complain("Please type your password.", password);
    else signIn(email.value.trim(), password.value);
  });
  chips.append(
    ...demo.map((account) =>
      el(
        "button",
        { type: "button", class: "chip", onclick: () => signIn(account.email, account.password) },
        account.label,
      ),
    ),
  );
  return el(
    "section",
    { class: "step" },
    el("h1", {}, again ? "Please sign in again" : "Who is here?"),
    el("p", { class: "lead" }, "Your scan is kept while you sign in. Take your time."),
    demo.length > 0 &&
      el(
        "div",
        { class: "demo", role: "group", "aria-label": "Demo accounts" },
        el("p", {}, el("strong", {}, "Demo"), " These people do not exist. Tap to be one of them:"),
        chips,
      ),
    form,
  );
}

/**
 * @param {string} label
 * @param {HTMLInputElement} input
 * @param {HTMLElement} [beside]
 */
function field(label, input, beside) {
  return el(
    "div",
    { class: "field" },
    el("label", { for: input.id }, label),
    el("div", { class: "field-row" }, input, beside),
  );
}

/**
 * Let a person see the password that they type.
 * @param {HTMLInputElement} input
 */
function revealFor(input) {
  const button = el("button", { type: "button", class: "reveal", "aria-pressed": "false" }, "Show");
  button.setAttribute("aria-label", "Show password");
  button.addEventListener("click", () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
    button.textContent = shown ? "Hide" : "Show";
  });
  return button;
}

/**
 * @typedef {object} Candidate
 * @property {string} appointment_id
 * @property {string} given_name
 * @property {"self" | "dependant"} whose
 * @property {string} starts_at
 * @property {string} practitioner_name
 * @property {string} site_name
 * @property {"eligible" | "too_early" | "wrong_location" | "already" | "expired"} verdict
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
    button.textContent = number === 0 ? "Select at least one" : "Check in selected";
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
    el("h1", {}, "Who is being seen?"),
    el("p", { class: "lead" }, "We found more than one visit today. Untick what is not for now."),
    form,
    backTo(onBack),
  );
}

/** @param {(() => void) | null | undefined} onBack */
function backTo(onBack) {
  if (!onBack) return null;
  return el(
    "button",
    { type: "button", class: "button button-quiet", onclick: onBack },
    "Back to my ticket",
  );
}

/** @param {Candidate} candidate */
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
      ...candidates.map((candidate) => el("li", { class: "visit visit-not" }, visitWords(candidate))),
    ),
  );
}

/** @param {Candidate} candidate */
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

/**
 * Explain a refusal and offer the next step.
 * @param {import("./troubles.js").Trouble} trouble
 * @param {object} choice
 * @param {(step: NonNullable<import("./troubles.js").NextStep>) => void} choice.onStep
 * @param {(() => void) | null} [choice.onBack] to tickets that are already there
 */
export function troubleView(trouble, { onStep, onBack }) {
  const { step } = trouble;
  const look = trouble.quiet ? "button button-quiet" : "button";
  const button =
    step &&
    el("button", { type: "button", class: look, onclick: () => onStep(step) }, trouble.label);
  if (button && trouble.waitSeconds) rest(button, trouble.waitSeconds);
  return el(
    "section",
    { class: "step step-trouble" },
    el("div", { class: "badge" }, icon(trouble.icon)),
    el("h1", {}, trouble.title),
    ...trouble.sentences.map((sentence) => el("p", { class: "lead" }, sentence)),
    trouble.facts &&
      el(
        "dl",
        { class: "facts" },
        ...trouble.facts.map(({ term, text }) =>
          el("div", {}, el("dt", {}, term), el("dd", {}, text)),
        ),
      ),
    trouble.link &&
      el(
        "a",
        { class: "button", href: trouble.link.href, target: "_blank", rel: "noopener noreferrer" },
        icon("pin"),
        trouble.link.label,
      ),
    button,
    backTo(onBack),
    trouble.reference &&
      el("p", { class: "reference" }, "Reference for the desk: ", el("code", {}, trouble.reference)),
  );
}

/**
 * Let a button rest for some seconds and count them.
 * @param {HTMLButtonElement} button
 * @param {number} seconds
 */
function rest(button, seconds) {
  const label = button.textContent;
  let left = seconds;
  const tick = () => {
    if (!button.isConnected && left !== seconds) return;
    button.disabled = left > 0;
    button.textContent = left > 0 ? `${label} in ${left} s` : label;
    left -= 1;
    if (left >= 0) setTimeout(tick, 1000);
  };
  tick();
}
