/** @file Know which tickets are called at a site, the latest first, and which one is new. */

/**
 * @typedef {object} Call
 * @property {string} queue_id
 * @property {string} line_name
 * @property {number} ticket
 * @property {string | null} room
 *
 * @typedef {object} Line
 * @property {string} queue_id
 * @property {string} line_name
 * @property {import("./live.js").Queue} queue
 */

/**
 * Take over what a line shows now.
 *
 * Whoever was called before stays where they stand; whoever was not comes first, and is new unless
 * the line was not known yet: a board that is switched on does not call people again.
 * @param {Call[]} calls of all lines, the latest first
 * @param {Line} line
 * @param {boolean} known whether the line was shown before
 * @returns {{calls: Call[], fresh: Call[]}}
 */
export function follow(calls, { queue_id, line_name, queue }, known) {
  const rooms = new Map(queue.called.map(({ ticket, room }) => [ticket, room]));
  const staying = calls
    .filter((each) => each.queue_id !== queue_id || rooms.has(each.ticket))
    .map((each) =>
      each.queue_id === queue_id ? { ...each, room: rooms.get(each.ticket) || null } : each,
    );
  const shown = new Set(
    staying.filter((each) => each.queue_id === queue_id).map(({ ticket }) => ticket),
  );
  const coming = queue.called
    .filter(({ ticket }) => !shown.has(ticket))
    .map(({ ticket, room }) => ({ queue_id, line_name, ticket, room }));
  return { calls: [...coming.reverse(), ...staying], fresh: known ? coming : [] };
}

/**
 * List the lines in which somebody waits, by name.
 * @param {Iterable<Line>} lines
 */
export function waitingLines(lines) {
  return [...lines]
    .filter(({ queue }) => queue.waiting.length)
    .sort((one, other) => one.line_name.localeCompare(other.line_name));
}
