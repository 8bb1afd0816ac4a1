/** @file Lead a person from the code at the door to a place in the queue. */

import { createApi, NetworkFailure, Problem, SignedOut } from "./api.js";
import { signInView, startView, troubleView, workingView } from "./checkin-views.js";
import { choiceView } from "./choice-views.js";
import { forgetPerson, forgetScan, keepScan, keptScan, keptVisit } from "./memory.js";
import { hashSecret, newScanSecret } from "./scan-secret.js";
import { say, setPlace, show } from "./stage.js";
import { ended, restored, ticketOf } from "./tickets.js";
import { tell, tellNoTicket, tellOpen } from "./troubles.js";
import { Waiting } from "./waiting.js";
import { listed, sentenceCase, untilThen } from "./words.js";

/**
 * @typedef {import("./memory.js").Scan} Scan
 * @typedef {import("./tickets.js").Ticket} Ticket
 */

const OPENING_CHECK_MS = 5000;

const api = createApi({ sessionKey: "cliniq.patient.session" });
const code = codeIn(window.location.pathname);
/** @type {() => void} ends what the last view had running */
let leave = () => undefined;

/**
 * Read the code of the door from the address.
 * @param {string} path /c/{code}
 */
function codeIn(path) {
  const coded = path.replace(/^\/c\//, "").replace(/\/$/, "");
  try {
    return decodeURIComponent(coded);
  } catch {
    return coded;
  }
}

/** Begin where the person left off, or at the tap. */
async function open() {
  const visit = keptVisit();
  const scan = keptScan(code);
  if (api.session()) {
    if (visit && visit.code !== code) return offer(hasOpenTicket(visit.tickets));
    return attempt(resume, open);
  }
  if (scan) return attempt(() => askWho(scan, false), open);
  return offer(false);
}

/** Show the tickets that this person already has, or offer the tap. */
async function resume() {
  show(workingView("Finding your place…"), { focus: false });
  const tickets = await ownTickets();
  if (tickets.length) follow(tickets, {});
  else offer(false);
}

/** Show the tickets of a visit that has begun, or say that there is none to wait for. */
async function showVisits() {
  const tickets = await ownTickets();
  if (tickets.length) follow(tickets, {});
  else show(troubleView(tellNoTicket(), { onStep: checkIn }), { title: "Your visits" });
}

/**
 * Ask which tickets this person has, with the names that the tab remembers.
 * @returns {Promise<Ticket[]>}
 */
async function ownTickets() {
  const visit = keptVisit();
  const rows = await api.get("/me/queue");
  return restored(rows, visit ? visit.tickets : []);
}

/**
 * Say whether any ticket still waits for something.
 * @param {Ticket[]} tickets
 */
function hasOpenTicket(tickets) {
  return tickets.some((ticket) => !ended(ticket));
}

/**
 * Offer the tap.
 * @param {boolean} hasTickets
 */
function offer(hasTickets) {
  leave();
  setPlace("");
  const session = api.session();
  const view = startView({
    name: session ? session.person.given_name : "",
    hasTickets,
    onCheckIn: checkIn,
    onSeeTickets: () => attempt(resume, () => offer(hasTickets)),
  });
  show(view, { focus: false });
}

/** Exchange the code, find out who this is, and take the place. */
function checkIn() {
  return attempt(async () => {
    show(workingView("Checking you in…"));
    const scan = await exchange();
    if (api.session()) await takePlace(scan);
    else await askWho(scan, false);
  }, checkIn);
}

/**
 * Exchange the code of the door for a scan pass that a slow sign-in cannot outlast.
 * @returns {Promise<Scan>}
 */
async function exchange() {
  const scan_secret = newScanSecret();
  const body = { code, secret_hash: await hashSecret(scan_secret) };
  const answer = await api
    .post("/appointments/check-in/scans", body, { signed: false })
    .catch((failure) => {
      // What does not even look like a code was cut short on its way into the address.
      const malformed = failure instanceof Problem && failure.status === 422;
      throw malformed ? new Problem(404, { code: "QR_INVALID" }) : failure;
    });
  const { scan_pass, clinic_name, site_name, point_name } = answer;
  const scan = {
    code,
    scan_pass,
    scan_secret,
    clinic_name,
    site_name,
    point_name,
    kept_at: Date.now(),
  };
  keepScan(scan);
  return scan;
}

/**
 * Ask who this is, then go on with the scan.
 * @param {Scan} scan
 * @param {boolean} again whether a session has just ended
 * @returns {Promise<void>}
 */
function askWho(scan, again) {
  setPlace(placeOf(scan));
  return signIn(again, () => attempt(() => takePlace(scan), checkIn));
}

/**
 * Let a person sign in.
 * @param {boolean} again whether a session has just ended
 * @param {() => unknown} then
 */
async function signIn(again, then) {
  const demo = await demoPatients();
  const view = signInView({
    again,
    demo,
    onSignIn: async (email, password) => {
      try {
        await api.signIn(email, password);
      } catch (failure) {
        return signInWords(failure);
      }
      then();
      return "";
    },
  });
  show(view, { title: "Sign in" });
}

/** Find the demo's patients; where no demo runs there are none. */
async function demoPatients() {
  const demo = await api.get("/demo", { signed: false }).catch(() => null);
  const accounts = demo ? demo.accounts : [];
  return accounts.filter((/** @type {{role: string}} */ account) => account.role === "PATIENT");
}

/**
 * Put a refused sign-in into words that stand under the form.
 * @param {unknown} failure
 */
function signInWords(failure) {
  if (failure instanceof Problem && (failure.code === "SIGN_IN_FAILED" || failure.status === 422)) {
    return "E-mail and password do not fit together. Please check both, or go to the desk.";
  }
  const { title, sentences } = tell(failure);
  return `${title}. ${sentences[0]}`;
}

/**
 * Take the place in the queue, or let the person choose which visits begin.
 * @param {Scan} scan
 * @param {string[]} [appointmentIds]
 * @returns {Promise<void>}
 */
async function takePlace(scan, appointmentIds) {
  setPlace(placeOf(scan));
  show(workingView("Checking you in…"), { focus: false });
  /** @type {any} */
  let answer;
  try {
    answer = await postScan(scan, appointmentIds);
  } catch (failure) {
    if (!(failure instanceof SignedOut)) throw failure;
    return askWho(scan, true);
  }
  if (answer.outcome === "choice") return choose(scan, answer.others);
  forgetScan();
  return celebrate(scan, answer);
}

/**
 * Take the place; a pass that ran out meanwhile is exchanged for another, once.
 * @param {Scan} scan
 * @param {string[]} [appointmentIds]
 */
async function postScan(scan, appointmentIds) {
  /** @param {Scan} held */
  const post = (held) =>
    api.post("/appointments/check-in/scan-qr", {
      scan_pass: held.scan_pass,
      scan_secret: held.scan_secret,
      ...(appointmentIds ? { appointment_ids: appointmentIds } : {}),
    });
  try {
    return await post(scan);
  } catch (failure) {
    const outlasted = failure instanceof Problem && failure.code === "QR_EXPIRED";
    if (!outlasted) throw failure;
  }
  // The pass ran out, not the code: a printed one is good for another pass.
  return post(await exchange());
}

/**
 * Let the person choose which visits begin.
 * @param {Scan} scan
 * @param {import("./choice-views.js").Candidate[]} candidates
 */
function choose(scan, candidates) {
  const onChosen = (/** @type {string[]} */ ids) =>
    attempt(
      () => takePlace(scan, ids),
      () => choose(scan, candidates),
    );
  show(choiceView({ candidates, onChosen, onBack: wayBack() }), { title: "Choose visits" });
}

/** Offer the way back to tickets that are still open; nothing where there are none. */
function wayBack() {
  const visit = keptVisit();
  if (!api.session() || !visit || !hasOpenTicket(visit.tickets)) return null;
  return () => attempt(resume, open);
}

/**
 * Show the place that was taken, beside the tickets from before.
 * @param {Scan} scan
 * @param {any} answer
 */
async function celebrate(scan, answer) {
  /** @type {Ticket[]} */
  const fresh = answer.check_ins.map((/** @type {any} */ receipt) =>
    ticketOf(receipt, scan.clinic_name),
  );
  const entries = new Set(fresh.map((ticket) => ticket.entry_id));
  const visit = keptVisit();
  const earlier = (visit ? visit.tickets : []).filter(
    (ticket) => !ended(ticket) && !entries.has(ticket.entry_id),
  );
  const already = answer.check_ins.every((/** @type {any} */ receipt) => receipt.already);
  const names = listed([...new Set(fresh.map((ticket) => ticket.given_name).filter(Boolean))]);
  const note = already
    ? "You were checked in before. Your place is kept."
    : `${names ? `${names}: ` : ""}checked in. Thank you.`;
  say(note);
  follow([...fresh, ...earlier], { note, others: answer.others });
}

/**
 * Stay with the tickets.
 * @param {Ticket[]} tickets
 * @param {{note?: string, others?: import("./choice-views.js").Candidate[]}} beside
 */
function follow(tickets, { note = "", others = [] }) {
  leave();
  const waiting = new Waiting({
    api,
    visit: { code, tickets },
    others,
    note,
    onAnother: () => {
      leave();
      checkIn();
    },
    onSignOut: async () => {
      leave();
      forgetPerson();
      await api.signOut();
      offer(false);
    },
    onSignedOut: () => attempt(() => signIn(true, () => attempt(resume, open)), open),
  });
  leave = () => waiting.stop();
}

/**
 * Name the door of a scan.
 * @param {Scan} scan
 */
function placeOf({ clinic_name, point_name }) {
  return [clinic_name, point_name].filter(Boolean).join(" · ");
}

/**
 * Do a step, and turn whatever goes wrong into words with a way on.
 * @param {() => Promise<unknown> | unknown} step
 * @param {() => unknown} again
 */
async function attempt(step, again) {
  leave();
  leave = () => undefined;
  try {
    await step();
  } catch (failure) {
    if (failure instanceof SignedOut) offer(false);
    else explain(failure, again);
  }
}

/**
 * Show a refusal and what can be done about it.
 * @param {unknown} failure
 * @param {() => unknown} again
 */
function explain(failure, again) {
  const trouble = tell(failure);
  const steps = { again, account: switchAccount, place: () => attempt(showVisits, again) };
  const onStep = (/** @type {"again" | "account" | "place"} */ step) => steps[step]();
  const view = troubleView(trouble, { onStep, onBack: wayBack() });
  show(view, { title: trouble.title });
  if (failure instanceof NetworkFailure) leave = whenOnline(again);
  if (trouble.opensAt) leave = whenOpen(view, trouble.opensAt, again);
}

/** Forget who was signed in and ask again. */
async function switchAccount() {
  forgetPerson();
  await api.signOut();
  checkIn();
}

/**
 * Go on by itself when the network returns.
 * @param {() => unknown} again
 */
function whenOnline(again) {
  const online = () => again();
  window.addEventListener("online", online, { once: true });
  return () => window.removeEventListener("online", online);
}

/**
 * Count the minutes until check-in opens, and say so when it does.
 * @param {HTMLElement} view
 * @param {string} opensAt
 * @param {() => unknown} again
 */
function whenOpen(view, opensAt, again) {
  const timer = setInterval(() => {
    const left = untilThen(opensAt);
    if (left || Date.now() < new Date(opensAt).getTime()) {
      const countdown = view.querySelector("[data-counts]");
      if (countdown) countdown.textContent = sentenceCase(left);
      return;
    }
    clearInterval(timer);
    const open = tellOpen();
    show(troubleView(open, { onStep: again, onBack: wayBack() }), { title: open.title });
    say(open.title);
  }, OPENING_CHECK_MS);
  return () => clearInterval(timer);
}

open();
