/**
 * @file Speak to the Cliniq API as one signed-in person.
 *
 * Every refusal of the server becomes a `Problem` that is told apart by its `code`; a request that
 * never reached the server becomes a `NetworkFailure`; a session that is over becomes `SignedOut`.
 */

import { tabStorage } from "./tab-storage.js";

const ROOT = "/api/v1";
const PATIENCE_MS = 15000;
const AGAIN_MS = 1000;
const MOST_TRIES = 4;

/**
 * @typedef {object} Session
 * @property {string} access_token
 * @property {string} refresh_token
 * @property {{person_id: string, given_name: string, family_name: string}} person
 *
 * @typedef {object} Call
 * @property {unknown} [body]      sent as JSON
 * @property {string} [clinicId]   the acting clinic, where the path does not name it
 * @property {boolean} [signed]    whether the bearer token goes along; true unless said
 * @property {string} [key]        by which the server knows a request that it has seen
 *
 * @typedef {object} Api
 * @property {(path: string, call?: Call) => Promise<any>} get
 * @property {(path: string, body?: unknown, call?: Call) => Promise<any>} post
 * @property {(email: string, password: string) => Promise<Session>} signIn
 * @property {() => Promise<void>} signOut
 * @property {() => Session | null} session
 */

/** Say what the server refused, and why, by a code that is never renamed. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {Record<string, any>} facts the members of the problem document
   */
  constructor(status, facts) {
    super(facts.title || `HTTP ${status}`);
    this.name = "Problem";
    this.status = status;
    /** @type {string} */
    this.code = facts.code || "UNKNOWN";
    this.facts = facts;
  }
}

/** Say that no answer came: no network, or none within the time a person waits. */
export class NetworkFailure extends Error {
  constructor() {
    super("No answer from the server");
    this.name = "NetworkFailure";
  }
}

/** Say that the person has to sign in (again). */
export class SignedOut extends Error {
  constructor() {
    super("Signed out");
    this.name = "SignedOut";
  }
}

/**
 * Open the API in the name of whoever signs in under this key.
 *
 * The session lives in the tab's storage and ends with it: the phone at the door may be borrowed.
 * @param {{sessionKey: string, storage?: import("./tab-storage.js").TabStorage}} choice
 * @returns {Api}
 */
export function createApi({ sessionKey, storage = tabStorage() }) {
  /** @type {Promise<void> | null} one renewal at a time: a used refresh token revokes its family */
  let renewal = null;

  /**
   * Read the session that this tab keeps.
   * @returns {Session | null}
   */
  function session() {
    const kept = storage.getItem(sessionKey);
    return kept ? JSON.parse(kept) : null;
  }

  /**
   * Keep a session for as long as the tab lives.
   * @param {Session} given
   */
  function keep(given) {
    storage.setItem(sessionKey, JSON.stringify(given));
    return given;
  }

  /** Exchange the refresh token once, however many calls noticed that the access token is over. */
  function renew() {
    renewal = renewal || renewNow().finally(() => (renewal = null));
    return renewal;
  }

  /** Exchange the refresh token; a refusal ends the session. */
  async function renewNow() {
    const current = session();
    if (!current) throw new SignedOut();
    try {
      keep(await send("POST", "/auth/refresh", { body: { refresh_token: current.refresh_token } }));
    } catch (refusal) {
      if (!(refusal instanceof Problem) || refusal.status !== 401) throw refusal;
      storage.removeItem(sessionKey);
      throw new SignedOut();
    }
  }

  /**
   * Send with the bearer token, and once more when the token had to be renewed.
   * @param {string} method
   * @param {string} path
   * @param {Call} call
   */
  async function signed(method, path, call) {
    const before = session();
    if (!before) throw new SignedOut();
    try {
      return await send(method, path, call, before.access_token);
    } catch (refusal) {
      if (!(refusal instanceof Problem) || refusal.status !== 401) throw refusal;
    }
    const now = session();
    // Another call may have renewed the token while this one was on its way.
    if (now && now.access_token === before.access_token) await renew();
    const after = session();
    if (!after) throw new SignedOut();
    try {
      return await send(method, path, call, after.access_token);
    } catch (refusal) {
      if (!(refusal instanceof Problem) || refusal.status !== 401) throw refusal;
      // A fresh token that is refused belongs to a session that was ended elsewhere.
      storage.removeItem(sessionKey);
      throw new SignedOut();
    }
  }

  /**
   * Send with the bearer token unless the call says that it is public.
   * @param {string} method
   * @param {string} path
   * @param {Call} call
   */
  function request(method, path, call) {
    return call.signed === false ? send(method, path, call) : signed(method, path, call);
  }

  /**
   * Ask for something to happen once: what got no answer is asked for again, with the same key.
   * @param {string} path
   * @param {Call} call
   */
  async function post(path, call) {
    const keyed = { key: newKey(), ...call };
    let lost = 0;
    for (let tries = 1; ; tries += 1) {
      try {
        return await request("POST", path, keyed);
      } catch (failure) {
        if (failure instanceof NetworkFailure) lost += 1;
        const again = failure instanceof NetworkFailure ? lost === 1 : isUnderWay(failure);
        if (!again || tries >= MOST_TRIES) throw failure;
      }
      await new Promise((resume) => setTimeout(resume, AGAIN_MS));
    }
  }

  return {
    get: (path, call = {}) => request("GET", path, call),
    post: (path, body, call = {}) => post(path, { ...call, body }),
    signIn: async (email, password) =>
      keep(await send("POST", "/auth/login", { body: { email, password } })),
    signOut: async () => {
      const current = session();
      storage.removeItem(sessionKey);
      if (!current) return;
      // The tab forgets the person even when the server cannot be told.
      await send("POST", "/auth/logout", {}, current.access_token).catch(() => undefined);
    },
    session,
  };
}

/** Make a key that nobody has used: a page on plain HTTP has no `crypto.randomUUID`. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Tell whether the first request with this key is still being worked on.
 * @param {unknown} failure
 */
function isUnderWay(failure) {
  return failure instanceof Problem && failure.code === "IDEMPOTENCY_KEY_IN_FLIGHT";
}

/**
 * Send one request and read its answer.
 * @param {string} method
 * @param {string} path
 * @param {Call} call
 * @param {string} [accessToken]
 * @returns {Promise<any>}
 */
async function send(method, path, call, accessToken) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json, application/problem+json" };
  if (call.body !== undefined) headers["Content-Type"] = "application/json";
  if (call.clinicId) headers["X-Clinic-Id"] = call.clinicId;
  if (call.key) headers["Idempotency-Key"] = call.key;
  if (accessToken) headers.Authorization = `Bearer ${accessToken}`;

  const hurry = new AbortController();
  const timer = setTimeout(() => hurry.abort(), PATIENCE_MS);
  try {
    const answer = await fetch(ROOT + path, {
      method,
      headers,
      body: call.body === undefined ? undefined : JSON.stringify(call.body),
      cache: "no-store",
      credentials: "omit",
      signal: hurry.signal,
    });
    const text = await answer.text();
    if (answer.ok) return text ? JSON.parse(text) : null;
    throw new Problem(answer.status, factsIn(text, answer.headers.get("Retry-After")));
  } catch (failure) {
    if (failure instanceof Problem) throw failure;
    throw new NetworkFailure();
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Read the facts of a refusal; a proxy's HTML page has none.
 * @param {string} text
 * @param {string | null} retryAfter seconds, as the header gives them
 * @returns {Record<string, any>}
 */
function factsIn(text, retryAfter) {
  /** @type {Record<string, any>} */
  let facts = {};
  try {
    const parsed = JSON.parse(text);
    if (parsed && typeof parsed === "object") facts = parsed;
  } catch {
    facts = {};
  }
  const seconds = Number(retryAfter);
  if (facts.retry_after_seconds === undefined && seconds > 0) facts.retry_after_seconds = seconds;
  return facts;
}
