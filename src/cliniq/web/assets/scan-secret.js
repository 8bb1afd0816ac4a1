/**
 * @file Bind a scan to this tab: a random secret stays here, only its hash goes out with the code.
 *
 * Whoever sees the scan pass alone can do nothing with it. The browser's own SHA-256 exists only in
 * secure contexts; a clinic that tries Cliniq over plain HTTP in its own network gets ours.
 */

/**
 * Make a secret that nobody can guess.
 * @returns {string} 256 random bits, base64url
 */
export function newScanSecret() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/**
 * Hash a secret as the server compares it: base64url of SHA-256 over its ASCII bytes.
 * @param {string} secret
 * @returns {Promise<string>}
 */
export async function hashSecret(secret) {
  const bytes = new TextEncoder().encode(secret);
  if (globalThis.crypto && crypto.subtle) {
    return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
  }
  return base64url(sha256(bytes));
}

/**
 * Write bytes as base64url without padding.
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function base64url(bytes) {
  const text = btoa(String.fromCharCode(...bytes));
  return text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/**
 * Take the first 32 bits of the fractional part of a root, as the standard builds its constants.
 * @param {number} prime
 * @param {number} power
 */
function rootBits(prime, power) {
  const root = prime ** power;
  return Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
}

/**
 * List the primes from 2 on.
 * @param {number} count
 */
function firstPrimes(count) {
  /** @type {number[]} */
  const primes = [];
  for (let n = 2; primes.length < count; n += 1) {
    if (primes.every((prime) => n % prime)) primes.push(n);
  }
  return primes;
}

const PRIMES = firstPrimes(64);
const ROUND = PRIMES.map((prime) => rootBits(prime, 1 / 3));
const START = PRIMES.slice(0, 8).map((prime) => rootBits(prime, 1 / 2));

/**
 * Hash bytes with SHA-256.
 *
 * Source: FIPS 180-4, sections 5.1.1 (padding), 6.2 (rounds).
 * @param {Uint8Array} bytes
 * @returns {Uint8Array} 32 bytes
 */
export function sha256(bytes) {
  const padded = new Uint8Array((((bytes.length + 8) >> 6) + 1) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);

  const hash = [...START];
  for (let block = 0; block < padded.length; block += 64) compress(hash, view, block);
  const out = new DataView(new ArrayBuffer(32));
  hash.forEach((word, place) => out.setInt32(place * 4, word));
  return new Uint8Array(out.buffer);
}

/**
 * Mix one block of 64 bytes into the hash.
 * @param {number[]} hash changed in place
 * @param {DataView} view
 * @param {number} block where it begins
 */
function compress(hash, view, block) {
  const words = new Int32Array(64);
  for (let i = 0; i < 64; i += 1) {
    if (i < 16) {
      words[i] = view.getInt32(block + i * 4);
    } else {
      const s0 = turn(words[i - 15], 7) ^ turn(words[i - 15], 18) ^ (words[i - 15] >>> 3);
      const s1 = turn(words[i - 2], 17) ^ turn(words[i - 2], 19) ^ (words[i - 2] >>> 10);
      words[i] = words[i - 16] + s0 + words[i - 7] + s1;
    }
  }
  let [a, b, c, d, e, f, g, h] = hash;
  for (let i = 0; i < 64; i += 1) {
    const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + words[i]) | 0;
    const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, place) => (hash[place] = (hash[place] + word) | 0));
}

/**
 * Rotate 32 bits to the right.
 * @param {number} word
 * @param {number} by
 */
function turn(word, by) {
  return (word >>> by) | (word << (32 - by));
}
