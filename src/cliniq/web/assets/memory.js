/** @file Remember, in this tab only, what a reload must not lose: the scan and the tickets. */

import { tabStorage } from "./tab-storage.js";

const SCAN = "cliniq.patient.scan";
const VISIT = "cliniq.patient.visit";
const SCAN_KEPT_MS = 10 * 60 * 1000;

/**
 * @typedef {object} Scan
 * @property {string} code
 * @property {string} scan_pass
 * @property {string} scan_secret
 * @property {string} clinic_name
 * @property {string} site_name
 * @property {string} point_name
 * @property {number} kept_at       milliseconds on this phone's clock, compared only with itself
 *
 * @typedef {object} Visit
 * @property {string} code          of the door where it was
 * @property {import("./tickets.js").Ticket[]} tickets
 */

/**
 * Keep the scan while the person signs in.
 * @param {Scan} scan
 */
export function keepScan(scan) {
  write(SCAN, scan);
}

/**
 * Find the scan of this door that a reload interrupted.
 * @param {string} code
 * @returns {Scan | null}
 */
export function keptScan(code) {
  const scan = read(SCAN);
  if (!scan || scan.code !== code) return null;
  return Math.abs(Date.now() - scan.kept_at) < SCAN_KEPT_MS ? scan : null;
}

/** Forget the scan: it was used, or its time is over. */
export function forgetScan() {
  tabStorage().removeItem(SCAN);
}

/**
 * Keep the tickets with their names.
 * @param {Visit} visit
 */
export function keepVisit(visit) {
  write(VISIT, visit);
}

/**
 * Find the tickets from before a reload.
 * @returns {Visit | null}
 */
export function keptVisit() {
  return read(VISIT);
}

/** Forget the person: the phone may be handed on. */
export function forgetPerson() {
  forgetScan();
  tabStorage().removeItem(VISIT);
}

/**
 * Write a value of this tab.
 * @param {string} key
 * @param {unknown} value
 */
function write(key, value) {
  tabStorage().setItem(key, JSON.stringify(value));
}

/**
 * Read a value of this tab.
 * @param {string} key
 * @returns {any}
 */
function read(key) {
  const text = tabStorage().getItem(key);
  return text ? JSON.parse(text) : null;
}
