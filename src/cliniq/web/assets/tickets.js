/** @file Know the tickets of this phone, and what each change of a queue means for them. */

/**
 * @typedef {"waiting" | "called" | "in_progress" | "completed" | "left" | "unknown"} Status
 *
 * @typedef {object} Ticket
 * @property {string} entry_id
 * @property {string} queue_id
 * @property {string} clinic_id
 * @property {string} clinic_name        empty when the answer did not name it
 * @property {string} appointment_id
 * @property {string} given_name         empty when the answer did not name the person
 * @property {"self" | "dependant" | ""} whose
 * @property {number} number             what the board shows
 * @property {string} line_name
 * @property {string | null} room
 * @property {Status} status             `unknown`: gone from the queue, the server has to say why
 * @property {number} position           1 is next; 0 unless waiting
 * @property {string} [checked_in_at]
 */

/**
 * Make a ticket of what a check-in answered.
 * @param {any} receipt
 * @param {string} clinicName
 * @returns {Ticket}
 */
export function ticketOf(receipt, clinicName) {
  return {
    entry_id: receipt.entry_id,
    queue_id: receipt.queue_id,
    clinic_id: receipt.clinic_id,
    clinic_name: clinicName,
    appointment_id: receipt.appointment_id,
    given_name: receipt.given_name || "",
    whose: receipt.whose || "",
    number: receipt.ticket,
    line_name: receipt.line_name || "",
    room: receipt.room || null,
    status: statusOf(receipt.status),
    position: receipt.position || 0,
    checked_in_at: receipt.checked_in_at,
  };
}

/**
 * Read a status; whatever is neither in the line nor seen nor done has left.
 * @param {string} status
 * @returns {Status}
 */
export function statusOf(status) {
  switch (status) {
    case "waiting":
    case "called":
    case "in_progress":
    case "completed":
      return status;
    default:
      return "left";
  }
}

/**
 * Bring what the server says now together with what this tab remembers of names.
 * @param {any[]} rows        of the person's own queue entries
 * @param {Ticket[]} remembered
 * @returns {Ticket[]} in the order of the tab's memory, then of the rows; what the rows no longer
 *   have is `unknown` unless it had ended
 */
export function restored(rows, remembered) {
  const byEntry = new Map(rows.map((row) => [row.entry_id, row]));
  const known = remembered.map((ticket) => {
    const row = byEntry.get(ticket.entry_id);
    byEntry.delete(ticket.entry_id);
    return row ? withRow(ticket, row) : gone(ticket);
  });
  const fresh = [...byEntry.values()].map((row) => ticketOf(row, row.clinic_name || ""));
  return [...known, ...fresh];
}

/**
 * Take over what one entry says of itself.
 * @param {Ticket} ticket
 * @param {any} row
 * @returns {Ticket}
 */
export function withRow(ticket, row) {
  return changed(ticket, {
    clinic_name: row.clinic_name || ticket.clinic_name,
    line_name: row.line_name || ticket.line_name,
    room: row.room || ticket.room,
    status: statusOf(row.status),
    position: row.position || 0,
  });
}

/**
 * Note that a ticket is no longer where it was; one that ended stays ended.
 * @param {Ticket} ticket
 * @returns {Ticket}
 */
function gone(ticket) {
  return ended(ticket) ? ticket : changed(ticket, { status: "unknown", position: 0 });
}

/**
 * Say whether nothing more will happen to this ticket.
 * @param {Ticket} ticket
 */
export function ended(ticket) {
  return ticket.status === "completed" || ticket.status === "left";
}

/**
 * Put who is called first and who is done last; the rest stay in their order.
 * @param {Ticket[]} tickets
 */
export function byUrgency(tickets) {
  const rank = (/** @type {Ticket} */ ticket) =>
    ticket.status === "called" ? 0 : ended(ticket) ? 2 : 1;
  return [...tickets].sort((a, b) => rank(a) - rank(b));
}

/**
 * Follow a ticket through one change of its queue.
 *
 * Its place is its rank among those who wait, never a number that was sent along.
 * @param {Ticket} ticket
 * @param {import("./live.js").Queue} queue
 * @param {import("./live.js").Frame} frame what led to this state
 * @returns {Ticket} the same one when nothing changed for it
 */
export function followed(ticket, queue, frame) {
  const rank = queue.waiting.indexOf(ticket.number) + 1;
  if (rank) return changed(ticket, { status: "waiting", position: rank });
  const call = queue.called.find((each) => each.ticket === ticket.number);
  if (call)
    return changed(ticket, { status: "called", position: 0, room: call.room || ticket.room });
  if (queue.in_progress.includes(ticket.number)) {
    return changed(ticket, { status: "in_progress", position: 0 });
  }
  if (frame.type === "event" && frame.body.ticket === ticket.number) {
    const done = frame.kind === "queue.entry_completed.v1";
    return changed(ticket, { status: done ? "completed" : "left", position: 0 });
  }
  return gone(ticket);
}

/**
 * Change a ticket, or give back the very same one when nothing is new.
 * @param {Ticket} ticket
 * @param {Partial<Ticket>} news
 * @returns {Ticket}
 */
function changed(ticket, news) {
  const same = Object.entries(news).every(([name, value]) => Reflect.get(ticket, name) === value);
  return same ? ticket : { ...ticket, ...news };
}
