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

const sentence = (status) => {
  if (status === 403) return 'Your access to this slide has expired. Reload the page to go on.';
  if (status === 404) return 'The server does not have this part of the slide.';
  if (status >= 500) return 'The server failed to send this part of the slide.';
  return `The server answered with status ${status}.`;
};

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
        problem = new FetchProblem(sentence(response.status), response.status);
        // 403 is worth another try: a rerun of the page may be renewing the token at this moment.
        if (response.status < 500 && response.status !== 403) throw problem;
      } catch (error) {
        if (error.name === 'AbortError' || (error instanceof FetchProblem && error.status === 404)) throw error;
        problem = error instanceof FetchProblem ? error
          : new FetchProblem('The server cannot be reached. Is it still running?', 0);
      }
      if (attempt >= ATTEMPTS) throw problem;
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
