/**
 * @file Keep things for as long as this tab lives: a phone at the door may be borrowed.
 *
 * Some browsers forbid storage altogether; there the page itself remembers, until it is reloaded.
 */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} TabStorage */

/** @type {Map<string, string>} */
const remembered = new Map();

/** @type {TabStorage} */
const ownMemory = {
  getItem: (key) => remembered.get(key) ?? null,
  setItem: (key, value) => void remembered.set(key, value),
  removeItem: (key) => void remembered.delete(key),
};

/**
 * Choose the browser's storage of the tab, or the page's own memory where that is forbidden.
 * @returns {TabStorage}
 */
export function tabStorage() {
  try {
    return window.sessionStorage;
  } catch {
    return ownMemory;
  }
}
