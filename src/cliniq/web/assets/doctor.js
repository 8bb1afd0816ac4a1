/** @file Play the doctor of the demo: watch the queues of a clinic live, and call the next one. */

import { NetworkFailure, Problem, SignedOut } from "./api.js";
import { doctorSignIn, doctorWorkplace, queueCard } from "./doctor-views.js";
import { byId } from "./dom.js";
import { LiveClient, wakeWithPage } from "./live-client.js";

const LOOK_AGAIN_MS = 10000;
const DONE = { start: "being seen", complete: "done", "no-show": "did not come" };

/**
 * @typedef {import("./checkin-views.js").DemoAccount} DemoAccount
 *
 * @typedef {object} Line             a queue as the panel shows it
 * @property {string} queue_id
 * @property {string} line_name
 * @property {number} waiting         how many
 * @property {import("./live.js").Queue | null} queue  live, once it is
 *
 * @typedef {object} Entry            what staff may know of a ticket
 * @property {string} entry_id
 * @property {number} ticket
 * @property {string} [patient_name]
 * @property {string} status
 * @property {string | null} room
 */

/** Own the little workplace on the first page. */
export class DoctorPanel {
  #api;
  #accounts;
  #root;
  /** @type {LiveClient | null} */
  #live = null;
  #status = "connecting";
  #clinicId = "";
  #clinicName = "";
  /** @type {Map<string, Line>} */
  #lines = new Map();
  /** @type {Map<string, Entry>} by queue and ticket */
  #entries = new Map();
  /** @type {any} */
  #timer = null;
  #room = "3";
  #ownName = "";
  /** @type {() => void} */
  #sleepless = () => undefined;

  /** @param {{api: import("./api.js").Api, accounts: DemoAccount[], root: HTMLElement}} choice */
  constructor({ api, accounts, root }) {
    this.#api = api;
    this.#accounts = accounts;
    this.#root = root;
    if (api.session()) this.#attempt(() => this.#enter());
    else this.#askWho();
  }

  /** Offer the doctors, after a word about what went wrong. */
  #askWho(words = "") {
    const onSignIn = (/** @type {DemoAccount} */ account) =>
      this.#attempt(async () => {
        await this.#api.signIn(account.email, account.password);
        await this.#enter();
      });
    this.#root.replaceChildren(doctorSignIn({ accounts: this.#accounts, words, onSignIn }));
  }

  /** Open the clinic in which this person is a doctor. */
  async #enter() {
    const me = await this.#api.get("/me");
    /** @type {{clinic_id: string, clinic_name: string, roles: string[]}[]} */
    const memberships = me.memberships;
    const clinic = memberships.find(({ roles }) => roles.includes("DOCTOR")) || memberships[0];
    if (!clinic) {
      await this.#leave("This account works in no clinic.");
      return;
    }
    this.#clinicId = clinic.clinic_id;
    this.#clinicName = clinic.clinic_name;
    this.#ownName = `${me.given_name} ${me.family_name}`;
    const live = new LiveClient({
      requestPass: () => this.#api.post("/live/passes"),
      onStatus: (status) => this.#noteStatus(status),
      onSignedOut: () => this.#leave("The session is over. Please sign in again."),
    });
    this.#live = live;
    this.#sleepless = wakeWithPage(live);
    this.#root.replaceChildren(
      doctorWorkplace({
        name: `${me.given_name} ${me.family_name}`,
        clinic: this.#clinicName,
        room: this.#room,
        onRoom: (room) => (this.#room = room),
        onSignOut: () => this.#leave(),
      }),
    );
    await this.#look();
  }

  /** Sign out and offer the accounts again. */
  async #leave(words = "") {
    clearTimeout(this.#timer);
    this.#sleepless();
    this.#live?.close();
    this.#live = null;
    this.#lines.clear();
    this.#entries.clear();
    this.#askWho(words);
    await this.#api.signOut();
  }

  /** Find today's queues, and again from time to time: a queue begins with its first patient. */
  async #look() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#attempt(() => this.#look(), true), LOOK_AGAIN_MS);
    if (document.hidden && this.#lines.size) return;
    /** @type {{queue_id: string, line_name: string, waiting: number}[]} */
    const rows = await this.#api.get("/queues", { clinicId: this.#clinicId });
    const live = this.#live;
    if (!live) return;
    for (const { queue_id, line_name, waiting } of rows) {
      const known = this.#lines.get(queue_id);
      if (known && this.#status !== "live") known.waiting = waiting;
      if (known) continue;
      this.#lines.set(queue_id, { queue_id, line_name, waiting, queue: null });
      live.subscribe(`queue:${queue_id}`, this.#clinicId, {
        onChange: ({ queue }) => this.#noteQueue(queue_id, queue),
        onRefused: () => this.#say("This queue may not be watched with this account."),
      });
    }
    this.#draw();
  }

  /**
   * Take over what a queue is now.
   * @param {string} queueId
   * @param {import("./live.js").Queue} queue
   */
  #noteQueue(queueId, queue) {
    const line = this.#lines.get(queueId);
    if (!line) return;
    line.queue = queue;
    line.waiting = queue.waiting.length;
    const tickets = [...queue.called.map(({ ticket }) => ticket), ...queue.in_progress];
    const unknown = tickets.some((ticket) => !this.#entries.has(`${queueId} ${ticket}`));
    if (unknown) this.#attempt(() => this.#readEntries(queueId), true);
    this.#draw();
  }

  /**
   * Learn the entries behind the tickets, which the live topic does not carry.
   * @param {string} queueId
   */
  async #readEntries(queueId) {
    const snapshot = await this.#api.get(`/queues/${queueId}`, { clinicId: this.#clinicId });
    for (const entry of snapshot.entries) {
      const key = `${queueId} ${entry.ticket}`;
      // A call names the person; the list of a queue may not, and must not take the name away.
      this.#entries.set(key, { ...this.#entries.get(key), ...entry });
    }
    this.#draw();
  }

  /**
   * Show whether the queues are live.
   * @param {import("./live-client.js").LiveStatus} status
   */
  #noteStatus(status) {
    this.#status = status;
    if (this.#live && status !== "closed") this.#draw();
  }

  /** Draw all queues as they are now. */
  #draw() {
    const list = document.getElementById("lines");
    if (!list) return;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.id : "";
    const isOthers = (/** @type {Line} */ line) => Number(!line.line_name.includes(this.#ownName));
    const lines = [...this.#lines.values()].sort(
      (a, b) => isOthers(a) - isOthers(b) || a.line_name.localeCompare(b.line_name),
    );
    list.replaceChildren(
      ...lines.map((line) =>
        queueCard({
          line,
          live: this.#status === "live",
          entryOf: (ticket) => this.#entries.get(`${line.queue_id} ${ticket}`),
          onCall: () => this.#attempt(() => this.#callNext(line)),
          onMove: (entry, verb) => this.#attempt(() => this.#move(line, entry, verb)),
        }),
      ),
    );
    byId("no-lines").hidden = lines.length > 0;
    // Every change draws the cards anew; a person on the keyboard must not lose the button.
    if (focused) document.getElementById(focused)?.focus();
  }

  /**
   * Call whoever is next in a line.
   * @param {Line} line
   */
  async #callNext(line) {
    const body = this.#room ? { room: this.#room } : {};
    const path = `/queues/${line.queue_id}/calls`;
    const entry = await this.#api.post(path, body, { clinicId: this.#clinicId });
    this.#entries.set(`${line.queue_id} ${entry.ticket}`, entry);
    this.#say(`Called ticket ${entry.ticket}.`);
    this.#draw();
  }

  /**
   * Let a called ticket start or be missed, or a started one end.
   * @param {Line} line
   * @param {Entry} entry
   * @param {import("./doctor-views.js").Verb} verb
   */
  async #move(line, entry, verb) {
    const path = `/queues/entries/${entry.entry_id}/${verb}`;
    const after = await this.#api.post(path, {}, { clinicId: this.#clinicId });
    this.#entries.set(`${line.queue_id} ${entry.ticket}`, { ...entry, ...after });
    this.#say(`Ticket ${entry.ticket}: ${DONE[verb]}.`);
  }

  /**
   * Do a step and say what went wrong, if anything did.
   * @param {() => Promise<unknown>} step
   * @param {boolean} [quiet] keeps what was said last, where nobody asked for the step
   */
  async #attempt(step, quiet = false) {
    try {
      if (!quiet) this.#say("");
      await step();
    } catch (failure) {
      if (failure instanceof SignedOut)
        await this.#leave("The session is over. Please sign in again.");
      else if (this.#live) this.#say(wordsFor(failure));
      else this.#askWho(wordsFor(failure));
    }
  }

  /**
   * Say what has just happened, under the queues.
   * @param {string} words
   */
  #say(words) {
    const line = document.getElementById("doctor-said");
    if (line) line.textContent = words;
  }
}

/**
 * Put a refusal into one sentence.
 * @param {unknown} failure
 */
function wordsFor(failure) {
  if (failure instanceof NetworkFailure) return "The server does not answer. Please try again.";
  const code = failure instanceof Problem ? failure.code : "";
  switch (code) {
    case "QUEUE_EMPTY":
      return "Nobody is waiting in this queue.";
    case "INVALID_TRANSITION":
      return "Somebody was faster: this ticket has moved on already.";
    case "SIGN_IN_FAILED":
      return "This demo account does not work any more.";
    case "RATE_LIMIT_EXCEEDED":
      return "That was a little fast. Please wait a moment.";
    default:
      return `That did not work${code ? ` (${code})` : ""}. Please try again.`;
  }
}
