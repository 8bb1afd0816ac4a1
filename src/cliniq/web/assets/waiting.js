/** @file Stay with the person from the check-in until the visit is over. */

import { Problem } from "./api.js";
import { byId } from "./dom.js";
import { createLive, wakeWithPage } from "./live.js";
import { keepVisit } from "./memory.js";
import { callOut, say, setTitle, show } from "./stage.js";
import { otherName, showFreshness, ticketCard, ticketsView, turnView, turnWords } from "./ticket-views.js";
import { ended, followed, restored, withRow } from "./tickets.js";
import { peopleAhead, placeInLine, roomName, timeOf } from "./words.js";

const BUZZ = [400, 150, 400, 150, 800];
const ASK_AFTER_TRIES = 3;
const ASK_EVERY_MS = 20000;

/**
 * @typedef {import("./tickets.js").Ticket} Ticket
 *
 * @typedef {object} WaitingOptions
 * @property {import("./api.js").Api} api
 * @property {import("./memory.js").Visit} visit
 * @property {import("./checkin-views.js").Candidate[]} [others]
 * @property {string} [note]
 * @property {() => void} onAnother     the person wants to check in another visit
 * @property {() => void} onSignOut
 * @property {() => void} onSignedOut   the session is over, the tickets are not
 */

/**
 * Show the tickets and follow their queues live.
 * @param {WaitingOptions} options
 * @returns {() => void} stops it
 */
export function wait({ api, visit, others = [], note = "", onAnother, onSignOut, onSignedOut }) {
  let tickets = visit.tickets;
  /** @type {import("./ticket-views.js").Freshness} */
  let freshness = "connecting";
  let heardAt = timeOf(Date.now());
  let stopped = false;
  /** @type {Set<string>} calls that the person has seen */
  const seen = new Set();
  /** @type {string | null} the ticket whose call fills the page */
  let onStage = null;
  /** @type {Map<string, () => void>} */
  const subscriptions = new Map();
  /** @type {Set<string>} entries whose fate is being asked for */
  const tracing = new Set();
  /** @type {any} */
  let asking = null;

  const live = createLive({
    requestPass: () => api.post("/live/passes"),
    onStatus: (status, attempt) => {
      if (stopped) return;
      freshness = status;
      if (status === "live") heardAt = timeOf(Date.now());
      if (status === "reconnecting" && attempt >= ASK_AFTER_TRIES) ask();
      showFreshness(byId("view"), freshness, heardAt);
    },
    onSignedOut,
  });
  const sleepless = wakeWithPage(live);

  /** Show whatever matters most now: a call that was not seen yet, else the tickets. */
  function render() {
    const call = tickets.find((each) => each.status === "called" && !seen.has(each.entry_id));
    if (call) showTurn(call);
    else showTickets();
    setTitle(titleOf(tickets));
  }

  /** @param {Ticket} ticket */
  function showTurn(ticket) {
    if (onStage === ticket.entry_id) return;
    onStage = ticket.entry_id;
    const onGoing = () => {
      seen.add(ticket.entry_id);
      onStage = null;
      render();
    };
    show(turnView({ ticket, onGoing }), { mood: "turn" });
    const room = ticket.room ? `Please go to ${roomName(ticket.room)}.` : "Please come in.";
    callOut(`${turnWords(ticket)}. ${room}`);
    if (navigator.vibrate) navigator.vibrate(BUZZ);
  }

  function showTickets() {
    onStage = null;
    const person = api.session()?.person;
    const name = person ? `${person.given_name} ${person.family_name}` : "";
    const waiting = tickets.every((each) => each.status === "waiting");
    const greeting = waiting ? note : "";
    const view = ticketsView({ tickets, others, note: greeting, onAnother, onSignOut, name });
    show(view, { mood: tickets.some((each) => each.status === "called") ? "turn" : "calm" });
    drawCards(new Set());
  }

  /** @param {Set<string>} moved entries whose place has just changed */
  function drawCards(moved) {
    const cards = tickets.map((ticket) =>
      ticketCard(ticket, { several: tickets.length > 1, moved: moved.has(ticket.entry_id) }),
    );
    byId("tickets").replaceChildren(...cards);
    showFreshness(byId("view"), freshness, heardAt);
  }

  /**
   * Take over what became of the tickets, show it and say it.
   * @param {Ticket[]} next
   */
  function become(next) {
    const before = new Map(tickets.map((ticket) => [ticket.entry_id, ticket]));
    tickets = next;
    keepVisit({ ...visit, tickets });
    const changed = next.filter((ticket) => before.get(ticket.entry_id) !== ticket);
    for (const ticket of changed) if (ticket.status !== "called") seen.delete(ticket.entry_id);
    if (changed.length) redraw(changed, before);
    follow();
  }

  /**
   * @param {Ticket[]} changed
   * @param {Map<string, Ticket>} before
   */
  function redraw(changed, before) {
    const turned = changed.some(
      (ticket) => ticket.status === "called" || before.get(ticket.entry_id)?.status === "called",
    );
    if (turned) {
      if (changed.some((ticket) => ticket.entry_id === onStage)) onStage = null;
      render();
    } else if (!onStage) {
      drawCards(new Set(changed.map((ticket) => ticket.entry_id)));
      setTitle(titleOf(tickets));
    }
    const words = changed.map(wordsFor).filter(Boolean).join(" ");
    if (words) say(words);
  }

  /** Subscribe to the queues that still matter, and ask about tickets that vanished from theirs. */
  function follow() {
    const open = tickets.filter((ticket) => !ended(ticket));
    const wanted = new Map(open.map((ticket) => [ticket.queue_id, ticket.clinic_id]));
    for (const [queueId, clinicId] of wanted) {
      if (!subscriptions.has(queueId)) subscriptions.set(queueId, listen(queueId, clinicId));
    }
    for (const [queueId, unsubscribe] of subscriptions) {
      if (wanted.has(queueId)) continue;
      unsubscribe();
      subscriptions.delete(queueId);
    }
    for (const ticket of open) if (ticket.status === "unknown") trace(ticket);
    if (!open.length && !stopped) stop();
  }

  /**
   * @param {string} queueId
   * @param {string} clinicId
   */
  function listen(queueId, clinicId) {
    return live.subscribe(`queue:${queueId}`, clinicId, {
      onChange: (state, frame) => {
        heardAt = timeOf(Date.now());
        become(
          tickets.map((each) =>
            each.queue_id === queueId ? followed(each, state.queue, frame) : each,
          ),
        );
      },
      onRefused: () => {
        freshness = "asking";
        askNowAndThen();
      },
    });
  }

  /**
   * Ask what became of a ticket that its queue no longer shows.
   * @param {Ticket} ticket
   */
  async function trace(ticket) {
    if (tracing.has(ticket.entry_id)) return;
    tracing.add(ticket.entry_id);
    const path = `/queues/${ticket.queue_id}/entries/${ticket.entry_id}`;
    /** @type {any} */
    let row = null;
    try {
      row = await api.get(path, { clinicId: ticket.clinic_id });
    } catch (failure) {
      if (failure instanceof Problem && failure.status === 404) row = { status: "left" };
    }
    tracing.delete(ticket.entry_id);
    const current = tickets.find((each) => each.entry_id === ticket.entry_id);
    if (stopped || !row || !current || current.status !== "unknown") return;
    become(tickets.map((each) => (each === current ? withRow(current, row) : each)));
  }

  /** Ask without the socket: better a place that is a little old than one that is wrong. */
  async function ask() {
    const rows = await api.get("/me/queue").catch(() => null);
    if (stopped || !rows) return;
    heardAt = timeOf(Date.now());
    const mine = new Set(tickets.map((ticket) => ticket.entry_id));
    become(restored(rows.filter((/** @type {any} */ row) => mine.has(row.entry_id)), tickets));
    showFreshness(byId("view"), freshness, heardAt);
  }

  /** Ask again and again, where the socket is refused. */
  async function askNowAndThen() {
    clearTimeout(asking);
    await ask();
    if (!stopped) asking = setTimeout(askNowAndThen, ASK_EVERY_MS * (0.75 + Math.random() / 2));
  }

  function stop() {
    stopped = true;
    clearTimeout(asking);
    sleepless();
    live.close();
    showFreshness(byId("view"), "closed", "");
  }

  keepVisit(visit);
  render();
  follow();
  return stop;
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
