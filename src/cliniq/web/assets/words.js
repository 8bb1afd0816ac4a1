/** @file Say numbers and instants the way a person would. Times are the phone's own. */

const ORDINAL = new Intl.PluralRules("en", { type: "ordinal" });
/** @type {Record<string, string>} */
const ENDING = { one: "st", two: "nd", few: "rd", other: "th" };

/**
 * Say a rank: 1st, 2nd, 3rd, 11th.
 * @param {number} rank
 */
export function ordinal(rank) {
  return `${rank}${ENDING[ORDINAL.select(rank)]}`;
}

/**
 * Say where in the line someone is.
 * @param {number} position 1 is the next to be called
 * @param {string} [name]   of somebody else than the reader
 */
export function placeInLine(position, name = "") {
  const who = name ? `${name} is` : "You are";
  return position === 1 ? `${who} next` : `${who} ${ordinal(position)} in line`;
}

/**
 * Say how many stand before someone.
 * @param {number} position 1 is the next to be called
 * @param {string} [name]   of somebody else than the reader
 */
export function peopleAhead(position, name = "") {
  const whom = name || "you";
  if (position === 1) return `Nobody is ahead of ${whom}.`;
  const ahead = position - 1;
  return ahead === 1 ? `1 person is ahead of ${whom}.` : `${ahead} people are ahead of ${whom}.`;
}

/**
 * Say a list of names: Ana, Mia and Leo.
 * @param {string[]} names
 */
export function listed(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

/**
 * Name a room: a bare number such as 3 or 12B gets the word, a name stays what it is.
 * @param {string} room
 */
export function roomName(room) {
  return /^[A-Z]?-?\d+[A-Z]?$/i.test(room) ? `Room ${room}` : room;
}

/**
 * Say the time of day of an instant.
 * @param {string | number | Date} instant
 * @param {string} [locale] the phone's unless said
 */
export function timeOf(instant, locale) {
  return new Date(instant).toLocaleTimeString(locale, { hour: "numeric", minute: "2-digit" });
}

/**
 * Say when an instant is, with its day unless that is today.
 * @param {string | number | Date} instant
 * @param {Date} [now]
 * @param {string} [locale] the phone's unless said
 */
export function whenIs(instant, now = new Date(), locale = undefined) {
  const at = new Date(instant);
  if (at.toDateString() === now.toDateString()) return `today at ${timeOf(at, locale)}`;
  const tomorrow = new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1);
  if (at.toDateString() === tomorrow.toDateString()) return `tomorrow at ${timeOf(at, locale)}`;
  const day = at.toLocaleDateString(locale, { weekday: "long", day: "numeric", month: "long" });
  return `on ${day} at ${timeOf(at, locale)}`;
}

/**
 * Say how long it is until an instant, or nothing once it is there.
 * @param {string | number | Date} instant
 * @param {Date} [now]
 */
export function untilThen(instant, now = new Date()) {
  const minutes = Math.ceil((new Date(instant).getTime() - now.getTime()) / 60000);
  if (minutes <= 0) return "";
  if (minutes < 60) return minutes === 1 ? "in 1 minute" : `in ${minutes} minutes`;
  const hours = Math.floor(minutes / 60);
  const rest = minutes % 60;
  if (hours >= 24) return "";
  const said = hours === 1 ? "1 hour" : `${hours} hours`;
  return rest ? `in ${said} ${rest} min` : `in ${said}`;
}

/**
 * Begin with a capital letter.
 * @param {string} words
 */
export function sentenceCase(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
