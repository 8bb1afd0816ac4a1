/** @file Say what a board says, in the languages of its waiting room. */

/**
 * @typedef {object} Words
 * @property {string} now
 * @property {string} next
 * @property {string} nobody      while nobody is called
 * @property {string} empty       while nobody waits
 * @property {(room: string) => string} room
 * @property {string} live
 * @property {string} connecting
 * @property {string} soundOn     what a tap does
 * @property {string} soundOff
 * @property {(ticket: number, line: string, room: string | null) => string} call  for ears
 * @property {string} signIn
 * @property {string} email
 * @property {string} password
 * @property {string} refused
 */

/** @type {Record<string, Words>} */
const WORDS = {
  en: {
    now: "Now called",
    next: "Next",
    nobody: "Please wait. Your ticket will be shown here.",
    empty: "Nobody is waiting.",
    room: (room) => `Room ${room}`,
    live: "Live",
    connecting: "Connecting",
    soundOn: "Turn the chime on",
    soundOff: "Turn the chime off",
    call: (ticket, line, room) => `Ticket ${ticket}, ${line}${room ? `, room ${room}` : ""}`,
    signIn: "Show this board",
    email: "E-mail",
    password: "Password",
    refused: "This account may not show boards here.",
  },
  de: {
    now: "Aufgerufen",
    next: "Als Nächste",
    nobody: "Bitte warten. Ihre Nummer erscheint hier.",
    empty: "Niemand wartet.",
    room: (room) => `Zimmer ${room}`,
    live: "Live",
    connecting: "Verbindung wird aufgebaut",
    soundOn: "Gong einschalten",
    soundOff: "Gong ausschalten",
    call: (ticket, line, room) => `Nummer ${ticket}, ${line}${room ? `, Zimmer ${room}` : ""}`,
    signIn: "Tafel zeigen",
    email: "E-Mail",
    password: "Passwort",
    refused: "Dieses Konto darf hier keine Tafel zeigen.",
  },
  pt: {
    now: "Chamando",
    next: "Próximos",
    nobody: "Aguarde. A sua senha aparecerá aqui.",
    empty: "Ninguém está esperando.",
    room: (room) => `Sala ${room}`,
    live: "Ao vivo",
    connecting: "Conectando",
    soundOn: "Ligar o som",
    soundOff: "Desligar o som",
    call: (ticket, line, room) => `Senha ${ticket}, ${line}${room ? `, sala ${room}` : ""}`,
    signIn: "Mostrar este painel",
    email: "E-mail",
    password: "Senha de acesso",
    refused: "Esta conta não pode mostrar painéis aqui.",
  },
  ar: {
    now: "يُنادى الآن",
    next: "التالي",
    nobody: "يرجى الانتظار. سيظهر رقمك هنا.",
    empty: "لا أحد ينتظر.",
    room: (room) => `غرفة ${room}`,
    live: "مباشر",
    connecting: "جارٍ الاتصال",
    soundOn: "تشغيل الجرس",
    soundOff: "إيقاف الجرس",
    call: (ticket, line, room) => `الرقم ${ticket}، ${line}${room ? `، غرفة ${room}` : ""}`,
    signIn: "عرض هذه اللوحة",
    email: "البريد الإلكتروني",
    password: "كلمة المرور",
    refused: "لا يمكن لهذا الحساب عرض اللوحات هنا.",
  },
};
const RIGHT_TO_LEFT = new Set(["ar"]);

/**
 * Choose the language of a board: the one that is asked for, else the browser's, else English.
 * @param {string | null} asked
 * @param {readonly string[]} browsers
 * @returns {{language: string, direction: "ltr" | "rtl", words: Words}}
 */
export function chooseWords(asked, browsers) {
  const wanted = [asked, ...browsers].map((each) => (each || "").slice(0, 2).toLowerCase());
  const language = wanted.find((each) => Object.hasOwn(WORDS, each)) || "en";
  const direction = RIGHT_TO_LEFT.has(language) ? "rtl" : "ltr";
  return { language, direction, words: WORDS[language] };
}
