/** @file Ring: two soft tones, made and not fetched. A browser lets nobody ring before a tap. */

const NOTES = [
  { hertz: 659.25, at: 0 },
  { hertz: 523.25, at: 0.38 },
];
const SECONDS = 1.4;
const LOUD = 0.35;

/** A chime that is off until somebody turns it on. */
export class Chime {
  /** @type {AudioContext | null} */
  #context = null;
  /** How often it rang since it was turned on. */
  rung = 0;

  /** Whether it rings. */
  get isOn() {
    return this.#context !== null;
  }

  /** Turn it on or off; only a tap may turn it on. */
  async turn() {
    if (this.#context) {
      await this.#context.close();
      this.#context = null;
      return;
    }
    this.#context = new AudioContext();
    await this.#context.resume();
    this.ring();
  }

  /** Ring once, unless it is off. */
  ring() {
    const context = this.#context;
    if (!context) return;
    this.rung += 1;
    const begins = context.currentTime + 0.02;
    for (const { hertz, at } of NOTES) {
      const tone = new OscillatorNode(context, { type: "sine", frequency: hertz });
      const loudness = new GainNode(context, { gain: 0 });
      loudness.gain.setValueAtTime(0, begins + at);
      loudness.gain.linearRampToValueAtTime(LOUD, begins + at + 0.02);
      loudness.gain.exponentialRampToValueAtTime(0.0001, begins + at + SECONDS);
      tone.connect(loudness).connect(context.destination);
      tone.start(begins + at);
      tone.stop(begins + at + SECONDS);
    }
  }
}
