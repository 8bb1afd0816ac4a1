/** @file Draw the steps up to the check-in: the tap, signing in, and every refusal. */

import { el } from "./dom.js";
import { arrivalPicture, icon } from "./icons.js";

/** @typedef {{email: string, password: string, label: string, role: string}} DemoAccount */

/**
 * Offer the tap. Until it comes, nothing has happened.
 * @param {{name: string, hasTickets: boolean, onCheckIn: () => void, onSeeTickets: () => void}} choice
 */
export function startView({ name, hasTickets, onCheckIn, onSeeTickets }) {
  return el(
    "section",
    { class: "step step-start" },
    arrivalPicture(),
    el("h1", {}, name ? `Hello ${name}.` : "Good to see you."),
    el("p", { class: "lead" }, "Tap once, and you have your place in the queue."),
    el(
      "button",
      { type: "button", class: "button button-arrive", onclick: onCheckIn },
      el("span", { class: "arrive-here" }, "I’m here", el("span", { class: "unseen" }, ": ")),
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
 * Say one thing that a person may rely on.
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
   * Sign in while nothing else can be pressed.
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
   * Say what is wrong, beside the field that it concerns.
   * @param {string} words
   * @param {HTMLInputElement} input
   */
  function complain(words, input) {
    alarm.textContent = words;
    alarm.hidden = false;
    for (const each of [email, password]) {
      each.removeAttribute("aria-describedby");
      each.removeAttribute("aria-invalid");
    }
    input.setAttribute("aria-describedby", "sign-in-alarm");
    input.setAttribute("aria-invalid", "true");
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
 * Lay out a field under its label.
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
 * Offer the way back to tickets that are already there.
 * @param {(() => void) | null | undefined} onBack
 */
export function backTo(onBack) {
  if (!onBack) return null;
  return el(
    "button",
    { type: "button", class: "button button-quiet", onclick: onBack },
    "Back to my ticket",
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
        ...trouble.facts.map(({ term, text, counts }) =>
          el("div", {}, el("dt", {}, term), el("dd", { "data-counts": counts }, text)),
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
      el(
        "p",
        { class: "reference" },
        "Reference for the desk: ",
        el("code", {}, trouble.reference),
      ),
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
