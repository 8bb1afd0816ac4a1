/** @file What the pages decide without a network, and the live client over a fake socket. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { NetworkFailure, Problem, SignedOut, createApi } from "../../src/cliniq/web/assets/api.js";
import { LiveClient } from "../../src/cliniq/web/assets/live-client.js";
import { apply, retryDelay } from "../../src/cliniq/web/assets/live.js";
import { hashSecret, newScanSecret, sha256 } from "../../src/cliniq/web/assets/scan-secret.js";
import { byUrgency, followed, restored } from "../../src/cliniq/web/assets/tickets.js";
import { tell } from "../../src/cliniq/web/assets/troubles.js";
import {
  listed,
  ordinal,
  peopleAhead,
  placeInLine,
  roomName,
  untilThen,
} from "../../src/cliniq/web/assets/words.js";

const TOPIC = "queue:q1";

function snapshot(version, { waiting = [], called = [], in_progress = [] } = {}, epoch = 1) {
  const state = { queue_id: "q1", on_day: "2026-03-01", waiting, called, in_progress };
  return { type: "snapshot", topic: TOPIC, epoch, version, state };
}

function event(version, fact, body) {
  return { type: "event", topic: TOPIC, version, kind: `queue.entry_${fact}.v1`, body };
}

function frozen(value) {
  for (const inner of Object.values(value)) if (inner && typeof inner === "object") frozen(inner);
  return Object.freeze(value);
}

function after(start, ...events) {
  return events.reduce(
    (state, each) => apply(state && frozen(state), each),
    apply(null, snapshot(4, start)),
  );
}

// apply

test("a snapshot replaces everything, whatever the version and the epoch", () => {
  const old = apply(null, snapshot(90, { waiting: [1, 2, 3] }));
  const fresh = apply(old, snapshot(3, { waiting: [7] }, 2));
  assert.deepEqual(fresh.queue.waiting, [7]);
  assert.equal(fresh.version, 3);
  assert.equal(fresh.epoch, 2);
});

test("an event before any snapshot asks for one", () => {
  assert.equal(apply(null, event(5, "completed", { ticket: 1 })), null);
});

test("a hole in the versions asks for a snapshot", () => {
  const state = after({ waiting: [1] });
  assert.equal(apply(state, event(6, "completed", { ticket: 1 })), null);
});

test("an unknown kind asks for a snapshot", () => {
  const state = after({ waiting: [1] });
  assert.equal(apply(state, event(5, "vanished", { ticket: 1 })), null);
  assert.equal(apply(state, { ...event(5, "x", { ticket: 1 }), kind: "constructor" }), null);
});

test("an event that is already part of the state changes nothing", () => {
  const state = after({ waiting: [1, 2] });
  assert.equal(apply(state, event(4, "completed", { ticket: 1 })), state);
  assert.equal(apply(state, event(1, "completed", { ticket: 1 })), state);
});

test("who joins stands at the position that is named", () => {
  const places = [1, 2, 3, 4].map(
    (position) =>
      after({ waiting: [1, 2, 3] }, event(5, "joined", { ticket: 9, position })).queue.waiting,
  );
  assert.deepEqual(places, [
    [9, 1, 2, 3],
    [1, 9, 2, 3],
    [1, 2, 9, 3],
    [1, 2, 3, 9],
  ]);
});

test("who joins beyond the end stands at the end", () => {
  assert.deepEqual(
    after({ waiting: [1] }, event(5, "joined", { ticket: 9, position: 7 })).queue.waiting,
    [1, 9],
  );
});

test("who joins again after a call waits again and is no longer called", () => {
  const { queue } = after(
    { waiting: [2], called: [{ ticket: 1, room: "3" }] },
    event(5, "joined", { ticket: 1, position: 2 }),
  );
  assert.deepEqual(queue.waiting, [2, 1]);
  assert.deepEqual(queue.called, []);
});

test("who is called goes from the line to the calls, which stand by ticket", () => {
  const { queue } = after(
    { waiting: [1, 2, 3], called: [{ ticket: 8, room: null }] },
    event(5, "called", { ticket: 2, room: "Blue" }),
  );
  assert.deepEqual(queue.waiting, [1, 3]);
  assert.deepEqual(queue.called, [
    { ticket: 2, room: "Blue" },
    { ticket: 8, room: null },
  ]);
});

test("who starts is in progress, from the calls or straight from the line", () => {
  const { queue } = after(
    { waiting: [1, 2], called: [{ ticket: 8, room: null }], in_progress: [5] },
    event(5, "started", { ticket: 8 }),
    event(6, "started", { ticket: 2 }),
  );
  assert.deepEqual(queue, {
    queue_id: "q1",
    on_day: "2026-03-01",
    waiting: [1],
    called: [],
    in_progress: [2, 5, 8],
  });
});

test("who completes or leaves is nowhere", () => {
  const { queue, version } = after(
    { waiting: [1], called: [{ ticket: 2, room: null }], in_progress: [3] },
    event(5, "left", { ticket: 1 }),
    event(6, "completed", { ticket: 2 }),
    event(7, "completed", { ticket: 3 }),
  );
  assert.deepEqual([queue.waiting, queue.called, queue.in_progress], [[], [], []]);
  assert.equal(version, 7);
});

test("events on an old snapshot equal a fresh one, over random days", () => {
  let seed = 7;
  const random = (below) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  for (let day = 0; day < 200; day += 1) {
    const truth = { waiting: [], called: [], in_progress: [] };
    let state = apply(null, snapshot(0, structuredClone(truth)));
    let next = 1;
    for (let version = 1; version <= 60; version += 1) {
      const [fact, body] = happen(truth, random, () => next++);
      state = apply(frozen(state), event(version, fact, body));
      assert.deepEqual(state, apply(null, snapshot(version, structuredClone(truth))));
    }
  }
});

/** Let one thing happen to the truth, and tell the event that says so. */
function happen(truth, random, issue) {
  const choice = random(5);
  if (choice === 1 && truth.waiting.length) {
    const [ticket] = truth.waiting.splice(0, 1);
    const room = random(2) ? String(random(9)) : null;
    truth.called.push({ ticket, room });
    truth.called.sort((one, other) => one.ticket - other.ticket);
    return ["called", { ticket, room }];
  }
  if (choice === 2 && truth.called.length) {
    const [{ ticket }] = truth.called.splice(random(truth.called.length), 1);
    truth.in_progress.push(ticket);
    truth.in_progress.sort((one, other) => one - other);
    return ["started", { ticket }];
  }
  if (choice === 3 && truth.in_progress.length) {
    const [ticket] = truth.in_progress.splice(random(truth.in_progress.length), 1);
    return ["completed", { ticket }];
  }
  if (choice === 4 && truth.waiting.length) {
    const [ticket] = truth.waiting.splice(random(truth.waiting.length), 1);
    return ["left", { ticket }];
  }
  const ticket = issue();
  const position = 1 + random(truth.waiting.length + 1);
  truth.waiting.splice(position - 1, 0, ticket);
  return ["joined", { ticket, position }];
}

test("retries wait longer each time, spread, and never beyond half a minute", () => {
  assert.equal(
    retryDelay(0, () => 0),
    0,
  );
  assert.equal(
    retryDelay(0, () => 1),
    500,
  );
  assert.equal(
    retryDelay(3, () => 1),
    4000,
  );
  for (const attempt of [6, 20, 5000])
    assert.equal(
      retryDelay(attempt, () => 1),
      30000,
    );
});

test("a large crowd comes back over as long as its server wants, and a minute at most", () => {
  assert.equal(
    retryDelay(0, () => 1, 45000),
    45000,
  );
  assert.equal(
    retryDelay(0, () => 0.5, 45000),
    22500,
  );
  assert.equal(
    retryDelay(0, () => 1, 999999),
    60000,
  );
  assert.equal(
    retryDelay(3, () => 1, 1000),
    4000,
  );
});

// The client over a fake socket

class FakeSocket {
  readyState = 0;
  sent = [];

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  tell(frame) {
    this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  break() {
    this.readyState = 3;
    this.onclose();
  }
}

/** Follow one queue over fake sockets, with the clock in the test's hands. */
async function followQueue(t, requestPass = async () => ({ live_pass: "p" })) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const sockets = [];
  const said = [];
  const seen = [];
  const refused = [];
  let signedOut = 0;
  const client = new LiveClient({
    requestPass,
    onStatus: (status) => said.push(status),
    onSignedOut: () => (signedOut += 1),
    openSocket: () => {
      sockets.push(new FakeSocket());
      return sockets[sockets.length - 1];
    },
    random: () => 1,
  });
  const unsubscribe = client.subscribe(TOPIC, "c1", {
    onChange: (state) => seen.push(state),
    onRefused: (code) => refused.push(code),
  });
  await settled();
  return { client, sockets, said, seen, refused, unsubscribe, signedOut: () => signedOut };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const SUBSCRIBE = { op: "subscribe", topic: TOPIC, clinic_id: "c1" };

test("the client is live only after the snapshot, and follows the events", async (t) => {
  const { sockets, said, seen } = await followQueue(t);
  const [socket] = sockets;
  socket.open();
  assert.deepEqual(socket.sent, [SUBSCRIBE]);
  assert.deepEqual(said, []);
  socket.tell(snapshot(4, { waiting: [1, 2] }));
  socket.tell(event(5, "called", { ticket: 1, room: "3" }));
  assert.deepEqual(said, ["live"]);
  assert.deepEqual(
    seen.map(({ queue }) => queue.waiting),
    [[1, 2], [2]],
  );
});

test("the client asks for a snapshot after a hole, and believes nothing until it comes", async (t) => {
  const { sockets, seen } = await followQueue(t);
  const [socket] = sockets;
  socket.open();
  socket.tell(snapshot(4, { waiting: [1, 2] }));
  socket.tell(event(6, "completed", { ticket: 1 }));
  socket.tell(event(5, "completed", { ticket: 2 }));
  assert.equal(socket.sent.length, 1);
  t.mock.timers.tick(300);
  assert.deepEqual(socket.sent, [SUBSCRIBE, { ...SUBSCRIBE, since: 4, epoch: "1" }]);
  socket.tell(event(7, "completed", { ticket: 2 }));
  assert.equal(seen.length, 1);
  socket.tell(snapshot(7, { waiting: [] }));
  assert.deepEqual(seen[1].queue.waiting, []);
});

test("the client comes back with a new pass after the socket breaks", async (t) => {
  const { sockets, said } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell(snapshot(4));
  sockets[0].break();
  assert.deepEqual(said, ["live", "reconnecting"]);
  t.mock.timers.tick(500);
  await settled();
  assert.equal(sockets.length, 2);
  sockets[1].open();
  assert.deepEqual(said, ["live", "reconnecting"]);
  sockets[1].tell(snapshot(9));
  assert.deepEqual(said, ["live", "reconnecting", "live"]);
});

test("the client takes its time to come back where a beat has asked for it", async (t) => {
  const { sockets } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell(snapshot(4));
  sockets[0].tell({ type: "beat", topic: TOPIC, version: 4, spread_ms: 20000 });
  sockets[0].break();
  t.mock.timers.tick(500);
  await settled();
  assert.equal(sockets.length, 1);
  t.mock.timers.tick(19500);
  await settled();
  assert.equal(sockets.length, 2);
});

test("the client resumes where it left off, and applies exactly what was missed", async (t) => {
  const { sockets, said, seen } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell(snapshot(4, { waiting: [1, 2] }, "e1"));
  sockets[0].break();
  t.mock.timers.tick(500);
  await settled();
  sockets[1].open();
  assert.deepEqual(sockets[1].sent, [{ ...SUBSCRIBE, since: 4, epoch: "e1" }]);
  sockets[1].tell(event(5, "called", { ticket: 1, room: "3" })); // nothing counts before the answer
  assert.equal(seen.length, 1);
  sockets[1].tell({ type: "resumed", topic: TOPIC, epoch: "e1", version: 4 });
  sockets[1].tell(event(5, "called", { ticket: 1, room: "3" }));
  assert.deepEqual(said, ["live", "reconnecting", "live"]);
  assert.deepEqual(seen[1].queue.waiting, [2]);
});

test("the client is not live when it is resumed elsewhere than it stands", async (t) => {
  const { sockets, said } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell({ type: "resumed", topic: TOPIC, epoch: "e1", version: 4 });
  assert.deepEqual(said, []);
});

test("the client asks for what a beat says that it has missed, and only then", async (t) => {
  const { sockets } = await followQueue(t);
  const [socket] = sockets;
  socket.open();
  socket.tell({ type: "beat", topic: TOPIC, version: 9 });
  socket.tell(snapshot(4));
  socket.tell({ type: "beat", topic: TOPIC, version: 4 });
  t.mock.timers.tick(300);
  assert.equal(socket.sent.length, 1);
  socket.tell({ type: "beat", topic: TOPIC, version: 5 });
  t.mock.timers.tick(300);
  assert.deepEqual(socket.sent[1], { ...SUBSCRIBE, since: 4, epoch: "1" });
});

test("the client takes a socket that has fallen silent for dead", async (t) => {
  const { sockets, said } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell(snapshot(4));
  t.mock.timers.tick(49000);
  sockets[0].tell({ type: "beat", topic: TOPIC, version: 4 });
  t.mock.timers.tick(49000);
  assert.deepEqual(said, ["live"]);
  t.mock.timers.tick(1000);
  assert.deepEqual(said, ["live", "reconnecting"]);
});

test("the client comes back no sooner than a server that restarts asks", async (t) => {
  const { sockets } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell(snapshot(4));
  sockets[0].tell({ type: "bye", code: "RESTARTING", retry_after_ms: 3000 });
  sockets[0].break();
  t.mock.timers.tick(2999);
  await settled();
  assert.equal(sockets.length, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(sockets.length, 2);
});

test("the client asks for a snapshot, not for events, where it knows not what an event means", async (t) => {
  const { sockets } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell(snapshot(4));
  sockets[0].tell({ ...event(5, "x", { ticket: 1 }), kind: "queue.entry_moved.v9" });
  t.mock.timers.tick(300);
  assert.deepEqual(sockets[0].sent[1], SUBSCRIBE);
});

test("the client takes a socket that does not answer for dead", async (t) => {
  const { sockets, said } = await followQueue(t);
  sockets[0].open();
  t.mock.timers.tick(8000);
  assert.deepEqual(said, ["reconnecting"]);
  assert.equal(sockets[0].readyState, 3);
});

test("the client hears nothing more from a socket that it gave up", async (t) => {
  const { sockets, seen } = await followQueue(t);
  sockets[0].open();
  t.mock.timers.tick(8000);
  sockets[0].tell(snapshot(4));
  sockets[0].onclose();
  assert.deepEqual(seen, []);
});

test("the client waits as long as the server asks", async (t) => {
  let passes = 0;
  const { said } = await followQueue(t, async () => {
    passes += 1;
    throw new Problem(429, { code: "RATE_LIMIT_EXCEEDED", retry_after_seconds: 12 });
  });
  assert.deepEqual(said, ["reconnecting"]);
  t.mock.timers.tick(11999);
  await settled();
  assert.equal(passes, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(passes, 2);
});

test("the client stops when the session is over", async (t) => {
  const { said, signedOut } = await followQueue(t, async () => {
    throw new SignedOut();
  });
  assert.deepEqual(said, ["closed"]);
  assert.equal(signedOut(), 1);
});

test("the client is not live on a topic that is refused", async (t) => {
  const { sockets, said, refused } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell({ type: "refused", topic: TOPIC, code: "NOT_FOUND" });
  assert.deepEqual(refused, ["NOT_FOUND"]);
  assert.deepEqual(said, []);
});

test("the client ignores what is no frame and what it did not ask for", async (t) => {
  const { sockets, seen } = await followQueue(t);
  sockets[0].open();
  for (const frame of [
    "",
    "null",
    "[]",
    "{",
    { type: "hello" },
    { ...snapshot(1), topic: "queue:q2" },
  ]) {
    sockets[0].tell(frame);
  }
  assert.deepEqual(seen, []);
});

test("the client asks again when it is woken, and not after it was closed", async (t) => {
  const { client, sockets } = await followQueue(t);
  sockets[0].open();
  sockets[0].tell(snapshot(4));
  client.wake();
  assert.deepEqual(sockets[0].sent, [SUBSCRIBE, { ...SUBSCRIBE, since: 4, epoch: "1" }]);
  client.close();
  client.wake();
  await settled();
  assert.equal(sockets.length, 1);
});

// The tickets of a phone

const TICKET = frozen({
  entry_id: "e1",
  queue_id: "q1",
  clinic_id: "c1",
  clinic_name: "Riverside",
  appointment_id: "a1",
  given_name: "Mia",
  whose: "dependant",
  number: 12,
  line_name: "Dr. Okafor",
  room: null,
  status: "waiting",
  position: 3,
});

function seenIn(queue, frame = snapshot(1), ticket = TICKET) {
  return followed(ticket, { waiting: [], called: [], in_progress: [], ...queue }, frame);
}

test("a ticket's place is its rank among those who wait", () => {
  assert.equal(seenIn({ waiting: [4, 12, 9] }).position, 2);
  assert.equal(seenIn({ waiting: [4, 5, 12] }), TICKET);
});

test("a called ticket learns its room", () => {
  const { status, room, position } = seenIn({ called: [{ ticket: 12, room: "3" }] });
  assert.deepEqual([status, room, position], ["called", "3", 0]);
});

test("a ticket that ends is told apart from one that left", () => {
  assert.equal(seenIn({}, event(2, "completed", { ticket: 12 })).status, "completed");
  assert.equal(seenIn({}, event(2, "left", { ticket: 12 })).status, "left");
});

test("a ticket that a snapshot no longer has is unknown, unless it had ended", () => {
  assert.equal(seenIn({}).status, "unknown");
  assert.equal(seenIn({}, event(2, "completed", { ticket: 99 })).status, "unknown");
  const done = { ...TICKET, status: "completed", position: 0 };
  assert.equal(seenIn({}, snapshot(1), done), done);
});

test("a reload brings names from the tab and places from the server together", () => {
  const rows = [
    { entry_id: "e2", ticket: 20, position: 1, status: "waiting", clinic_name: "Hill" },
    { entry_id: "e1", ticket: 12, position: 2, status: "waiting", room: "4" },
  ];
  const other = { ...TICKET, entry_id: "e3" };
  const tickets = restored(rows, [TICKET, other]);
  assert.deepEqual(
    tickets.map(({ entry_id, given_name, position, status }) => [
      entry_id,
      given_name,
      position,
      status,
    ]),
    [
      ["e1", "Mia", 2, "waiting"],
      ["e3", "Mia", 0, "unknown"],
      ["e2", "", 1, "waiting"],
    ],
  );
});

test("who is called comes first and who is done comes last", () => {
  const tickets = ["completed", "waiting", "called", "in_progress"].map((status) => ({
    ...TICKET,
    status,
  }));
  assert.deepEqual(
    byUrgency(tickets).map(({ status }) => status),
    ["called", "waiting", "in_progress", "completed"],
  );
});

// Words

test("a place is said as a person would say it", () => {
  assert.deepEqual([1, 2, 3, 4, 11, 12, 13, 21, 102, 113].map(ordinal), [
    "1st",
    "2nd",
    "3rd",
    "4th",
    "11th",
    "12th",
    "13th",
    "21st",
    "102nd",
    "113th",
  ]);
  assert.equal(placeInLine(1), "You are next");
  assert.equal(placeInLine(3, "Mia"), "Mia is 3rd in line");
  assert.deepEqual(
    [1, 2, 3].map((position) => peopleAhead(position)),
    ["Nobody is ahead of you.", "1 person is ahead of you.", "2 people are ahead of you."],
  );
  assert.deepEqual([[], ["Ana"], ["Ana", "Mia"], ["Ana", "Mia", "Leo"]].map(listed), [
    "",
    "Ana",
    "Ana and Mia",
    "Ana, Mia and Leo",
  ]);
  assert.deepEqual(["3", "12b", "A4", "Blue room", "Lab"].map(roomName), [
    "Room 3",
    "Room 12b",
    "Room A4",
    "Blue room",
    "Lab",
  ]);
});

test("the time until an instant is said in minutes and hours, and not when it is past or far", () => {
  const now = new Date("2026-03-01T10:00:00Z");
  const said = ["10:00:01", "10:12:00", "11:00:00", "12:05:00", "09:00:00"].map((time) =>
    untilThen(`2026-03-01T${time}Z`, now),
  );
  assert.deepEqual(said, ["in 1 minute", "in 12 minutes", "in 1 hour", "in 2 hours 5 min", ""]);
  assert.equal(untilThen("2026-03-09T10:00:00Z", now), "");
});

test("every code of check-in has words of its own and a way on", () => {
  const codes = [
    "QR_INVALID",
    "QR_EXPIRED",
    "NO_APPOINTMENT_FOUND",
    "ALREADY_CHECKED_IN",
    "WRONG_LOCATION",
    "CHECKIN_TOO_EARLY",
    "APPOINTMENT_EXPIRED",
    "VERIFICATION_REQUIRED",
    "RATE_LIMIT_EXCEEDED",
  ];
  const facts = { opens_at: "2026-03-01T10:00:00Z" };
  const titles = codes.map((code) => tell(new Problem(409, { code, ...facts })).title);
  const unknown = tell(new Problem(500, { code: "INTERNAL", trace_id: "t1" }));
  assert.equal(unknown.reference, "t1");
  assert.equal(unknown.step, "again");
  assert.equal(
    new Set([...titles, unknown.title, tell(new NetworkFailure()).title]).size,
    codes.length + 2,
  );
});

test("a way to a place is shown only when it is an address of the web", () => {
  const linkOf = (directions_url) =>
    tell(new Problem(409, { code: "WRONG_LOCATION", directions_url })).link;
  assert.equal(linkOf("https://maps.example/?q=1").href, "https://maps.example/?q=1");
  for (const bad of ["javascript:alert(1)", "data:text/html,x", "//evil.example", undefined, 7]) {
    assert.equal(linkOf(bad), undefined);
  }
});

// The secret of a scan

test("our SHA-256 agrees with the platform's, at every length around a block", async () => {
  for (let length = 0; length < 200; length += 1) {
    const bytes = new Uint8Array(length).map((_, place) => (place * 37 + length) & 255);
    const expected = createHash("sha256").update(bytes).digest("hex");
    assert.equal(Buffer.from(sha256(bytes)).toString("hex"), expected);
  }
});

test("a secret is hashed over its characters and written as base64url", async () => {
  const secret = newScanSecret();
  assert.match(secret, /^[\w-]{43}$/);
  assert.notEqual(secret, newScanSecret());
  assert.equal(
    await hashSecret(secret),
    createHash("sha256").update(secret, "ascii").digest("base64url"),
  );
});

// The session

class FakeStorage {
  kept = new Map();
  getItem = (key) => this.kept.get(key) ?? null;
  setItem = (key, value) => this.kept.set(key, value);
  removeItem = (key) => this.kept.delete(key);
}

function answer(status, body, headers = {}) {
  return new Response(body === undefined ? null : JSON.stringify(body), { status, headers });
}

/** Sign in against a server of one function. */
async function signedIn(t, serve) {
  let number = 0;
  const grant = () => ({
    access_token: `a${(number += 1)}`,
    refresh_token: `r${number}`,
    person: {},
  });
  t.mock.method(globalThis, "fetch", async (path, request) => {
    if (path.endsWith("/auth/login")) return answer(200, grant());
    return serve(path, request, grant);
  });
  const storage = new FakeStorage();
  const api = createApi({ sessionKey: "k", storage });
  await api.signIn("a@b.c", "x");
  return { api, storage };
}

test("many calls that find the token over renew it once and are all repeated", async (t) => {
  let renewals = 0;
  const { api } = await signedIn(t, async (path, request, grant) => {
    if (path.endsWith("/auth/refresh")) {
      renewals += 1;
      assert.deepEqual(JSON.parse(request.body), { refresh_token: "r1" });
      return answer(200, grant());
    }
    return request.headers.Authorization === "Bearer a2"
      ? answer(200, path)
      : answer(401, { code: "X" });
  });
  const answers = await Promise.all(["/a", "/b", "/c"].map((path) => api.get(path)));
  assert.deepEqual(answers, ["/api/v1/a", "/api/v1/b", "/api/v1/c"]);
  assert.equal(renewals, 1);
});

test("a refused renewal signs the tab out", async (t) => {
  const { api } = await signedIn(t, async () => answer(401, { code: "REFRESH_REFUSED" }));
  await assert.rejects(api.get("/me"), SignedOut);
  assert.equal(api.session(), null);
});

test("a renewal that finds no network keeps the session", async (t) => {
  const { api } = await signedIn(t, async (path) => {
    if (path.endsWith("/auth/refresh")) throw new TypeError("offline");
    return answer(401, {});
  });
  await assert.rejects(api.get("/me"), NetworkFailure);
  assert.notEqual(api.session(), null);
});

test("a session that was ended elsewhere signs the tab out, even with a fresh token", async (t) => {
  const { api } = await signedIn(t, async (path, _request, grant) =>
    path.endsWith("/auth/refresh") ? answer(200, grant()) : answer(401, { code: "X" }),
  );
  await assert.rejects(api.get("/me"), SignedOut);
  assert.equal(api.session(), null);
});

test("a refusal carries its code, its facts and when to come back", async (t) => {
  const { api } = await signedIn(t, async () =>
    answer(429, { code: "RATE_LIMIT_EXCEEDED" }, { "Retry-After": "9" }),
  );
  await assert.rejects(api.post("/x"), (problem) => {
    assert.ok(problem instanceof Problem);
    assert.deepEqual(
      [problem.status, problem.code, problem.facts.retry_after_seconds],
      [429, "RATE_LIMIT_EXCEEDED", 9],
    );
    return true;
  });
});

test("a refusal that is no problem document is still a problem", async (t) => {
  const { api } = await signedIn(t, async () => new Response("<html>", { status: 502 }));
  await assert.rejects(
    api.get("/x"),
    (problem) => problem instanceof Problem && problem.code === "UNKNOWN",
  );
});

/** Answer posts one after the other, and note the keys that came with them. */
async function posted(t, ...answers) {
  const keys = [];
  const { api } = await signedIn(t, async (_path, request) => {
    keys.push(request.headers["Idempotency-Key"]);
    const next = answers.shift();
    if (next === undefined) throw new TypeError("offline");
    return next();
  });
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const waiting = api.post("/x", {}).then(
    (said) => ({ said }),
    (failure) => ({ failure }),
  );
  for (let turns = 0; turns < 200; turns += 1) {
    await Promise.resolve();
    if (turns % 20 === 19) t.mock.timers.tick(1000);
  }
  return { keys, ...(await waiting) };
}

const ok = () => answer(200, { done: true });
const lost = () => Promise.reject(new TypeError("offline"));
const underWay = () => answer(409, { code: "IDEMPOTENCY_KEY_IN_FLIGHT" });

test("every post has a key of its own", async (t) => {
  const keys = [];
  const { api } = await signedIn(t, async (_path, request) => {
    keys.push(request.headers["Idempotency-Key"]);
    return ok();
  });
  await api.post("/x", {});
  await api.post("/x", {});
  await api.get("/x");
  assert.match(keys[0], /^[0-9a-f]{32}$/);
  assert.notEqual(keys[0], keys[1]);
  assert.equal(keys[2], undefined);
});

test("a post that got no answer is repeated once, with the same key", async (t) => {
  const { keys, said } = await posted(t, lost, ok);
  assert.deepEqual(said, { done: true });
  assert.equal(keys.length, 2);
  assert.equal(new Set(keys).size, 1);
});

test("a post that got no answer twice fails", async (t) => {
  const { keys, failure } = await posted(t, lost, lost, ok);
  assert.ok(failure instanceof NetworkFailure);
  assert.equal(keys.length, 2);
});

test("a post whose first try is still under way waits for its answer", async (t) => {
  const { keys, said } = await posted(t, lost, underWay, ok);
  assert.deepEqual(said, { done: true });
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
});

test("a post whose first try never ends is given up", async (t) => {
  const { keys, failure } = await posted(t, ...Array(9).fill(underWay));
  assert.equal(failure.code, "IDEMPOTENCY_KEY_IN_FLIGHT");
  assert.equal(keys.length, 4);
});

test("a post that is refused is not repeated", async (t) => {
  const { keys, failure } = await posted(t, () => answer(409, { code: "QUEUE_EMPTY" }), ok);
  assert.equal(failure.code, "QUEUE_EMPTY");
  assert.equal(keys.length, 1);
});

test("a token that is renewed in between changes no key", async (t) => {
  const keys = [];
  const { api } = await signedIn(t, async (path, request, grant) => {
    if (path.endsWith("/auth/refresh")) return answer(200, grant());
    keys.push(request.headers["Idempotency-Key"]);
    return request.headers.Authorization === "Bearer a2" ? ok() : answer(401, {});
  });
  await api.post("/x", {});
  assert.equal(keys.length, 2);
  assert.equal(new Set(keys).size, 1);
});
