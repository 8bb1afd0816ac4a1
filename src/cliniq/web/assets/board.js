/** @file Hang a board in a waiting room: what is called now, what comes next, live. */

import { createApi, SignedOut } from "./api.js";
import { boardSignIn, calledTicket, nextInLine } from "./board-views.js";
import { chooseWords } from "./board-words.js";
import { follow, waitingLines } from "./calls.js";
import { Chime } from "./chime.js";
import { byId } from "./dom.js";
import { icon } from "./icons.js";
import { LiveClient, wakeWithPage } from "./live-client.js";

const LOOK_AGAIN_MS = 10000;
const FRESH_MS = 12000;
const MOST_SHOWN = 6;

const asked = new URLSearchParams(window.location.search);
const { language, direction, words } = chooseWords(asked.get("lang"), navigator.languages);
const api = createApi({ sessionKey: "cliniq.board.session" });
const chime = new Chime();

/** A board of one site. */
class Board {
  #clinicId = asked.get("clinic") || "";
  #siteId = asked.get("site") || "";
  /** @type {Map<string, import("./calls.js").Line>} */
  #lines = new Map();
  /** @type {Set<string>} queues that are followed, with or without a snapshot */
  #followed = new Set();
  /** @type {import("./calls.js").Call[]} */
  #calls = [];
  /** @type {Map<string, number>} until when a call is fresh */
  #fresh = new Map();
  #live = new LiveClient({
    requestPass: () => api.post("/live/passes"),
    onStatus: (status) => this.#noteStatus(status),
    onSignedOut: () => this.#askIn(),
  });

  /** Begin: with this tab's sign-in, or the demo's desk, or whoever signs in. */
  async begin() {
    wakeWithPage(this.#live);
    this.#noteStatus("connecting");
    if (!api.session()) await this.#enterDemo();
    if (api.session()) await this.#look();
    else this.#askIn();
  }

  /** Where a demo runs, its desk shows the board. */
  async #enterDemo() {
    const demo = await api.get("/demo", { signed: false }).catch(() => null);
    const desk = demo?.accounts.find(
      (/** @type {{role: string}} */ each) => each.role === "RECEPTIONIST",
    );
    if (desk) await api.signIn(desk.email, desk.password).catch(() => null);
  }

  /** Ask for a sign-in, after a word about what went wrong. */
  #askIn(trouble = "") {
    const door = byId("door");
    const form = boardSignIn(words, trouble, async (email, password) => {
      try {
        await api.signIn(email, password);
        door.hidden = true;
        await this.#look();
      } catch {
        this.#askIn(words.refused);
      }
    });
    door.replaceChildren(form);
    door.hidden = false;
  }

  /** Find today's lines, and again from time to time: a line begins with its first patient. */
  async #look() {
    setTimeout(() => this.#look(), LOOK_AGAIN_MS);
    const path = `/queues?site_id=${encodeURIComponent(this.#siteId)}`;
    try {
      /** @type {{queue_id: string, line_name: string}[]} */
      const heads = await api.get(path, { clinicId: this.#clinicId });
      for (const head of heads) this.#follow(head);
      this.#forget(new Set(heads.map(({ queue_id }) => queue_id)));
    } catch (failure) {
      // A demo that has begun anew knows nobody of before: the page begins anew with it.
      if (failure instanceof SignedOut) window.location.reload();
    }
    this.#draw();
  }

  /** @param {{queue_id: string, line_name: string}} head */
  #follow({ queue_id, line_name }) {
    if (this.#followed.has(queue_id)) return;
    this.#followed.add(queue_id);
    this.#live.subscribe(`queue:${queue_id}`, this.#clinicId, {
      onChange: ({ queue }) => this.#noteQueue({ queue_id, line_name, queue }),
      onRefused: () => this.#askIn(words.refused),
    });
  }

  /**
   * Show lines of today only.
   * @param {Set<string>} todays
   */
  #forget(todays) {
    for (const queueId of this.#lines.keys()) {
      if (!todays.has(queueId)) this.#lines.delete(queueId);
    }
    this.#calls = this.#calls.filter(({ queue_id }) => todays.has(queue_id));
  }

  /** @param {import("./calls.js").Line} line */
  #noteQueue(line) {
    const known = this.#lines.has(line.queue_id);
    this.#lines.set(line.queue_id, line);
    const { calls, fresh } = follow(this.#calls, line, known);
    this.#calls = calls;
    for (const each of fresh) {
      this.#fresh.set(keyOf(each), Date.now() + FRESH_MS);
      byId("called-out").textContent = words.call(each.ticket, each.line_name, each.room);
    }
    if (fresh.length) {
      chime.ring();
      setTimeout(() => this.#draw(), FRESH_MS + 50);
    }
    this.#draw();
  }

  /** @param {import("./live-client.js").LiveStatus} status */
  #noteStatus(status) {
    const sign = byId("live");
    sign.textContent = status === "live" ? words.live : words.connecting;
    sign.classList.toggle("board-live-on", status === "live");
  }

  /** Draw all as it is now. */
  #draw() {
    const now = Date.now();
    const isFresh = (/** @type {import("./calls.js").Call} */ call) =>
      (this.#fresh.get(keyOf(call)) || 0) > now;
    const shown = this.#calls.slice(0, MOST_SHOWN);
    byId("now").replaceChildren(...shown.map((call) => calledTicket(call, isFresh(call), words)));
    byId("nobody").hidden = shown.length > 0;
    const lines = waitingLines(this.#lines.values());
    byId("next").replaceChildren(...lines.map(nextInLine));
    byId("empty").hidden = lines.length > 0;
  }
}

/** @param {import("./calls.js").Call} call */
function keyOf({ queue_id, ticket }) {
  return `${queue_id} ${ticket}`;
}

/** Say all words of the page in its language. */
function speak() {
  document.documentElement.lang = language;
  document.documentElement.dir = direction;
  byId("site").textContent = asked.get("name") || "Cliniq";
  byId("now-title").textContent = words.now;
  byId("next-title").textContent = words.next;
  byId("nobody").textContent = words.nobody;
  byId("empty").textContent = words.empty;
}

/** Say what a tap on the chime does. */
function showSound() {
  const button = byId("sound");
  button.replaceChildren(icon(chime.isOn ? "bell" : "mute"), chime.isOn ? words.soundOff : words.soundOn);
  button.setAttribute("aria-pressed", String(chime.isOn));
}

byId("sound").addEventListener("click", async () => {
  await chime.turn();
  showSound();
});
speak();
showSound();
new Board().begin();
