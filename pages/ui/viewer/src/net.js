// Fetching with the slide's token. Failures become sentences that a person can act on.

const TOKEN_HEADER = 'X-SF-Token';
const ATTEMPTS = 3;
const PAUSE_MS = 400;

export class FetchProblem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** What a person can do about an answer that is none. */
async function problemOf(response) {
  const { status } = response;
  // What is too much the server says best itself: how much it is, and what to do.
  const said = status === 413 ? await response.text()
    : status === 403 ? 'Your access to this slide has expired. Reload the page to go on.'
      : status === 404 ? 'The server does not have this part of the slide.'
        : status >= 500 ? 'The server failed to send this part of the slide.'
          : `The server answered with status ${status}.`;
  return new FetchProblem(said, status);
}

/** The server will answer the same again. 403 may pass: a rerun of the page may be renewing the token at this moment. */
const isFinal = ({ status }) => status >= 400 && status < 500 && status !== 403;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Address of the codes that a colour (`group:KEY`, `pair:A,B`, `result:JOB/COLUMN` ...) is made of. */
export function codesPath(colour) {
  const [kind, name] = [colour.slice(0, colour.indexOf(':')), colour.slice(colour.indexOf(':') + 1)];
  if (kind === 'pair') return `pair.bin?genes=${name.split(',').map(encodeURIComponent).join(',')}`;
  return `${kind}/${name.split('/').map(encodeURIComponent).join('/')}.bin`;
}

/** Requests of one slide. The token may change (it is renewed hourly); addresses do not. */
export class Net {
  constructor(base) {
    this.base = new URL(`${base}/`, document.baseURI).href;
    this.token = '';
    this.version = '';
    this.kept = new Map();
  }

  url(path) {
    if (!this.version) return this.base + path;
    return `${this.base}${path}${path.includes('?') ? '&' : '?'}v=${encodeURIComponent(this.version)}`;
  }

  /** Response of a request; tries again when the network, or the server in passing, fails. */
  async request(path, signal) {
    for (let attempt = 1; ; attempt += 1) {
      let problem;
      try {
        const response = await fetch(this.url(path), { headers: { [TOKEN_HEADER]: this.token }, signal });
        if (response.ok) return response;
        problem = await problemOf(response);
      } catch (error) {
        if (error.name === 'AbortError') throw error;
        problem = new FetchProblem('The server cannot be reached. Is it still running?', 0);
      }
      if (isFinal(problem) || attempt >= ATTEMPTS) throw problem;
      await pause(PAUSE_MS * attempt);
    }
  }

  async json(path, signal) {
    return (await this.request(path, signal)).json();
  }

  async buffer(path, signal) {
    return (await this.request(path, signal)).arrayBuffer();
  }

  /** Picture of a tile, or null where the image has none. */
  async bitmap(path, signal) {
    const response = await this.request(path, signal);
    return createImageBitmap(await response.blob());
  }

  /** Codes of a colour; those of a pair change once its co-occurrence is measured. */
  codes(path) {
    return path.startsWith('pair.bin') ? this.buffer(path) : this.remembered(path);
  }

  /** As `buffer`, remembered: switching back to a colour asks the server nothing. */
  remembered(path) {
    if (!this.kept.has(path)) {
      const answer = this.buffer(path);
      answer.catch(() => this.kept.delete(path));
      this.kept.set(path, answer);
      if (this.kept.size > 24) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(path);
  }
}
