/** @file Stay with the person from the check-in until the visit is over. */

import { Problem } from "./api.js";
import { byId } from "./dom.js";
import { LiveClient, wakeWithPage } from "./live-client.js";
import { keepVisit } from "./memory.js";
import { callOut, say, setTitle, show } from "./stage.js";
import {
  otherName,
  showFreshness,
  ticketCard,
  ticketsView,
  turnView,
  turnWords,
} from "./ticket-views.js";
import { byUrgency, ended, followed, restored, withRow } from "./tickets.js";
import { peopleAhead, placeInLine, roomName, timeOf } from "./words.js";

const BUZZ_MS = [400, 150, 400, 150, 800];
const ASK_AFTER_TRIES = 3;
const ASK_EVERY_MS = 20000;

/**
 * @typedef {import("./tickets.js").Ticket} Ticket
 *
 * @typedef {object} WaitingOptions
 * @property {import("./api.js").Api} api
 * @property {import("./memory.js").Visit} visit
 * @property {import("./choice-views.js").Candidate[]} others  visits elsewhere or later today
 * @property {string} note              a sentence that goes with fresh tickets, or nothing
 * @property {() => void} onAnother     the person wants to check in another visit
 * @property {() => void} onSignOut
 * @property {() => void} onSignedOut   the session is over, the tickets are not
 */

/** Show the tickets of this phone and keep them true. */
export class Waiting {
  #options;
  /** @type {Ticket[]} */
  #tickets;
  #live;
  #sleepless;
  /** @type {import("./ticket-views.js").Freshness} */
  #freshness = "connecting";
  #heardAt = timeOf(Date.now());
  #stopped = false;
  /** @type {Set<string>} entries whose call the person has seen */
  #seen = new Set();
  /** @type {string | null} the entry whose call fills the page */
  #onStage = null;
  /** @type {Set<string>} entries whose fate is being asked for */
  #tracing = new Set();
  /** @type {Map<string, () => void>} by queue */
  #subscriptions = new Map();
  /** @type {any} */
  #askTimer = null;

  /** @param {WaitingOptions} options */
  constructor(options) {
    this.#options = options;
    this.#tickets = options.visit.tickets;
    this.#live = new LiveClient({
      requestPass: () => options.api.post("/live/passes"),
      onStatus: (status, attempt) => this.#noteStatus(status, attempt),
      onSignedOut: options.onSignedOut,
    });
    this.#sleepless = wakeWithPage(this.#live);
    keepVisit(options.visit);
    this.#render();
    this.#follow();
  }

  /** Leave the queues alone; the tickets stay what they are. */
  stop() {
    this.#stopped = true;
    clearTimeout(this.#askTimer);
    this.#sleepless();
    this.#live.close();
  }

  // What the page shows

  /** Show whatever matters most now: a call that was not seen yet, else the tickets. */
  #render() {
    const call = this.#tickets.find(
      (ticket) => ticket.status === "called" && !this.#seen.has(ticket.entry_id),
    );
    if (!call) this.#showTickets();
    else if (this.#onStage !== call.entry_id) this.#showTurn(call);
    setTitle(titleOf(this.#tickets));
  }

  /**
   * Let a call fill the page, and be heard and felt.
   * @param {Ticket} ticket
   */
  #showTurn(ticket) {
    this.#onStage = ticket.entry_id;
    const onGoing = () => {
      this.#seen.add(ticket.entry_id);
      this.#render();
    };
    show(turnView({ ticket, onGoing }), { mood: "turn" });
    const room = ticket.room ? `Please go to ${roomName(ticket.room)}.` : "Please come in.";
    callOut(`${turnWords(ticket)}. ${room}`);
    // A page that nobody has touched since it was loaded may not vibrate.
    if (navigator.vibrate && navigator.userActivation?.hasBeenActive !== false) {
      navigator.vibrate(BUZZ_MS);
    }
  }

  /** Show all tickets. */
  #showTickets() {
    this.#onStage = null;
    const { api, others, note, onAnother, onSignOut } = this.#options;
    const session = api.session();
    const view = ticketsView({
      several: this.#tickets.length > 1,
      others,
      note: this.#tickets.every((ticket) => ticket.status === "waiting") ? note : "",
      name: session ? `${session.person.given_name} ${session.person.family_name}` : "",
      onAnother,
      onSignOut,
    });
    const called = this.#tickets.some((ticket) => ticket.status === "called");
    show(view, { mood: called ? "turn" : "calm" });
    this.#drawCards(new Set());
  }

  /**
   * Draw the tickets as they are now.
   * @param {Set<string>} moved entries whose place has just changed
   */
  #drawCards(moved) {
    const first = this.#tickets.find((ticket) => ticket.status === "waiting");
    const cards = byUrgency(this.#tickets).map((ticket) =>
      ticketCard(ticket, {
        several: this.#tickets.length > 1,
        moved: moved.has(ticket.entry_id),
        hint: ticket === first,
      }),
    );
    byId("tickets").replaceChildren(...cards);
    this.#showFreshness();
  }

  /** Say on the page how fresh its knowledge is. */
  #showFreshness() {
    showFreshness(byId("view"), this.#freshness, this.#heardAt);
  }

  // What becomes of the tickets

  /**
   * Take over what became of the tickets, show it and say it.
   * @param {Ticket[]} tickets
   */
  #become(tickets) {
    const before = new Map(this.#tickets.map((ticket) => [ticket.entry_id, ticket]));
    const changed = tickets.filter((ticket) => before.get(ticket.entry_id) !== ticket);
    this.#tickets = tickets;
    keepVisit({ ...this.#options.visit, tickets });
    for (const ticket of changed)
      if (ticket.status !== "called") this.#seen.delete(ticket.entry_id);
    if (changed.length) this.#redraw(changed, before);
    this.#follow();
  }

  /**
   * Show and say what changed: a new step fills the page anew, a new place only its ticket.
   * @param {Ticket[]} changed
   * @param {Map<string, Ticket>} before
   */
  #redraw(changed, before) {
    const turned = changed.some(
      ({ entry_id, status }) => status !== "unknown" && status !== before.get(entry_id)?.status,
    );
    if (turned || changed.some((ticket) => ticket.entry_id === this.#onStage)) {
      if (changed.some((ticket) => ticket.entry_id === this.#onStage)) this.#onStage = null;
      this.#render();
    } else if (!this.#onStage) {
      this.#drawCards(new Set(changed.map((ticket) => ticket.entry_id)));
      setTitle(titleOf(this.#tickets));
    }
    const words = changed.map(wordsFor).filter(Boolean).join(" ");
    if (words) say(words);
  }

  /** Subscribe to the queues that still matter, and ask about tickets that vanished from theirs. */
  #follow() {
    const open = this.#tickets.filter((ticket) => !ended(ticket));
    const wanted = new Map(open.map((ticket) => [ticket.queue_id, ticket.clinic_id]));
    for (const [queueId, clinicId] of wanted) {
      if (!this.#subscriptions.has(queueId)) this.#subscribe(queueId, clinicId);
    }
    for (const [queueId, unsubscribe] of this.#subscriptions) {
      if (wanted.has(queueId)) continue;
      this.#subscriptions.delete(queueId);
      unsubscribe();
    }
    for (const ticket of open) if (ticket.status === "unknown") this.#trace(ticket);
    if (!open.length) this.stop();
  }

  /**
   * Follow one queue.
   * @param {string} queueId
   * @param {string} clinicId
   */
  #subscribe(queueId, clinicId) {
    const unsubscribe = this.#live.subscribe(`queue:${queueId}`, clinicId, {
      onChange: ({ queue }, frame) => {
        this.#heardAt = timeOf(Date.now());
        this.#become(
          this.#tickets.map((ticket) =>
            ticket.queue_id === queueId ? followed(ticket, queue, frame) : ticket,
          ),
        );
      },
      onRefused: () => {
        this.#freshness = "asking";
        this.#askNowAndThen();
      },
    });
    this.#subscriptions.set(queueId, unsubscribe);
  }

  // What the server is asked apart from the socket

  /**
   * Take over how fresh the socket is; where it stays away, ask without it.
   * @param {import("./live-client.js").LiveStatus} status
   * @param {number} attempt
   */
  #noteStatus(status, attempt) {
    this.#freshness = status;
    if (status === "live") this.#heardAt = timeOf(Date.now());
    if (status === "reconnecting" && attempt >= ASK_AFTER_TRIES) this.#ask();
    this.#showFreshness();
  }

  /**
   * Ask what became of a ticket that its queue no longer shows.
   * @param {Ticket} ticket
   */
  async #trace(ticket) {
    if (this.#tracing.has(ticket.entry_id)) return;
    this.#tracing.add(ticket.entry_id);
    const path = `/queues/${ticket.queue_id}/entries/${ticket.entry_id}`;
    /** @type {any} */
    let row = null;
    try {
      row = await this.#options.api.get(path, { clinicId: ticket.clinic_id });
    } catch (failure) {
      if (failure instanceof Problem && failure.status === 404) row = { status: "left" };
    }
    this.#tracing.delete(ticket.entry_id);
    const current = this.#tickets.find((each) => each.entry_id === ticket.entry_id);
    if (this.#stopped || !row || !current || current.status !== "unknown") return;
    this.#become(this.#tickets.map((each) => (each === current ? withRow(current, row) : each)));
  }

  /** Ask without the socket: better a place that is a little old than one that is wrong. */
  async #ask() {
    const rows = await this.#options.api.get("/me/queue").catch(() => null);
    if (this.#stopped || !rows) return;
    this.#heardAt = timeOf(Date.now());
    const mine = new Set(this.#tickets.map((ticket) => ticket.entry_id));
    const own = rows.filter((/** @type {{entry_id: string}} */ row) => mine.has(row.entry_id));
    this.#become(restored(own, this.#tickets));
    this.#showFreshness();
  }

  /** Ask again and again, where the socket is refused. */
  async #askNowAndThen() {
    clearTimeout(this.#askTimer);
    await this.#ask();
    if (this.#stopped) return;
    const pause = ASK_EVERY_MS * (0.75 + Math.random() / 2);
    this.#askTimer = setTimeout(() => this.#askNowAndThen(), pause);
  }
}

/**
 * Name the tab by what matters most among the tickets.
 * @param {Ticket[]} tickets
 */
function titleOf(tickets) {
  const called = tickets.find((ticket) => ticket.status === "called");
  if (called) return `${turnWords(called)}${called.room ? `: ${roomName(called.room)}` : ""}`;
  const waiting = tickets.filter((ticket) => ticket.status === "waiting");
  if (waiting.length) {
    const first = waiting.reduce((a, b) => (b.position < a.position ? b : a));
    return placeInLine(first.position, otherName(first));
  }
  return tickets.some((ticket) => ticket.status === "in_progress") ? "Being seen" : "Your visit";
}

/**
 * Say a change of one ticket to those who listen; the call itself is called out apart.
 * @param {Ticket} ticket
 */
function wordsFor(ticket) {
  const name = otherName(ticket);
  const { status, position, number } = ticket;
  if (status === "waiting") return `${placeInLine(position, name)}. ${peopleAhead(position, name)}`;
  if (status === "in_progress") return name ? `${name} is being seen.` : "You are being seen.";
  if (status === "completed") return "All done. Thank you for coming.";
  if (status === "left") return `Ticket ${number} is no longer in the queue. Please tell the desk.`;
  return "";
}
