/** @file Offer the demo on the first page, where one runs. */

import { createApi } from "./api.js";
import { DoctorPanel } from "./doctor.js";
import { byId, el } from "./dom.js";
import { icon } from "./icons.js";
import { sentenceCase } from "./words.js";

/**
 * @typedef {import("./checkin-views.js").DemoAccount} DemoAccount
 *
 * @typedef {object} DemoClinic
 * @property {string} clinic_id
 * @property {string} clinic_name
 * @property {{check_in_point_id: string, site_name: string, point_name: string, path: string}[]} points
 *
 * @typedef {object} DemoBoard
 * @property {string} clinic_name
 * @property {string} site_name
 * @property {string} path
 */

// The doctor's session has a key of its own: a patient may be signed in beside it.
const api = createApi({ sessionKey: "cliniq.demo-doctor.session" });

const LOOK_AGAIN_MS = 1000;
const MOST_LOOKS = 60;

/** Show the demo, or leave the page as it is. */
async function offerDemo() {
  const demo = await api.get("/demo", { signed: false }).catch(() => null);
  if (!demo) return;
  byId("doors").replaceChildren(...demo.clinics.map(clinicDoors));
  byId("accounts").replaceChildren(accountTable(demo.accounts));
  const doctors = demo.accounts.filter((/** @type {DemoAccount} */ each) => each.role === "DOCTOR");
  new DoctorPanel({ api, accounts: doctors, root: byId("doctor") });
  if (demo.runs) {
    byId("boards").replaceChildren(...demo.boards.map(boardLink));
    byId("running").hidden = false;
    byId("reset").addEventListener("click", beginAnew);
  }
  for (const id of ["try", "nav-try", "hero-try"]) byId(id).hidden = false;
  if (window.location.hash === "#try") byId("try").scrollIntoView();
}

/**
 * Offer a waiting room's board.
 * @param {DemoBoard} board
 */
function boardLink({ clinic_name, site_name, path }) {
  const href = `${path}&name=${encodeURIComponent(site_name)}`;
  return el(
    "li",
    {},
    el(
      "a",
      { class: "door", href, target: "_blank", rel: "noopener" },
      icon("clock"),
      el(
        "span",
        {},
        el("b", {}, site_name),
        el("small", {}, `${clinic_name}, waiting room`),
        el("span", { class: "unseen" }, " (opens a new tab)"),
      ),
      icon("arrow"),
    ),
  );
}

/** Have the demo begin anew, and come back when it has. */
async function beginAnew() {
  const button = /** @type {HTMLButtonElement} */ (byId("reset"));
  button.disabled = true;
  button.textContent = "It begins anew …";
  const said = await api.post("/demo/resets", {}, { signed: false }).catch(() => null);
  await api.signOut().catch(() => null);
  await pause(said ? said.seconds * 1000 : LOOK_AGAIN_MS);
  for (let look = 0; look < MOST_LOOKS; look += 1) {
    const demo = await api.get("/demo", { signed: false }).catch(() => null);
    if (demo) break;
    await pause(LOOK_AGAIN_MS);
  }
  window.location.reload();
}

/** @param {number} milliseconds */
function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

/**
 * List the doors of a clinic; each opens as a patient's phone would.
 * @param {DemoClinic} clinic
 */
function clinicDoors({ clinic_name, points }) {
  return el(
    "div",
    { class: "doors" },
    el("h4", {}, clinic_name),
    el("ul", {}, ...points.map(door)),
  );
}

/**
 * Offer one door.
 * @param {DemoClinic["points"][number]} point
 */
function door({ site_name, point_name, path }) {
  // Without an opener the new tab starts with an empty session, as another phone does.
  return el(
    "li",
    {},
    el(
      "a",
      { class: "door", href: path, target: "_blank", rel: "noopener" },
      icon("qr"),
      el(
        "span",
        {},
        el("b", {}, "Scan the code at the door"),
        el("small", {}, `${site_name}, ${point_name}`),
        el("span", { class: "unseen" }, " (opens a new tab)"),
      ),
      icon("arrow"),
    ),
  );
}

/**
 * List who can sign in.
 * @param {DemoAccount[]} accounts
 */
function accountTable(accounts) {
  return el(
    "div",
    { class: "accounts", role: "region", "aria-label": "Demo accounts", tabindex: "0" },
    el(
      "table",
      {},
      el("caption", {}, "Demo accounts"),
      el("thead", {}, el("tr", {}, ...["Who", "E-mail and password"].map(columnHead))),
      el("tbody", {}, ...accounts.map(accountRow)),
    ),
  );
}

/**
 * Head a column.
 * @param {string} title
 */
function columnHead(title) {
  return el("th", { scope: "col" }, title);
}

/**
 * Show how one person signs in.
 * @param {DemoAccount} account
 */
function accountRow({ label, role, email, password }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, label, el("small", {}, roleName(role))),
    el("td", {}, el("code", {}, email), el("code", {}, password)),
  );
}

/**
 * Write a role as a word: LAB_TECHNICIAN is a lab technician.
 * @param {string} role
 */
function roleName(role) {
  return sentenceCase(role.toLowerCase().replace(/_/g, " "));
}

offerDemo();
