// The cookies of one visitor. There is one host and every cookie has Path=/,
// so Domain and Path need no care; a cookie which is taken back does.
export class Jar {
  #cookies = new Map();

  take(lines = []) {
    for (const line of lines) {
      const [pair, ...attributes] = line.split(';').map((part) => part.trim());
      const at = pair.indexOf('=');
      if (at < 1) continue;
      const name = pair.slice(0, at);
      if (isExpired(attributes)) this.#cookies.delete(name);
      else this.#cookies.set(name, pair.slice(at + 1));
    }
  }

  has(name) {
    return this.#cookies.has(name);
  }

  get headers() {
    if (this.#cookies.size === 0) return {};
    return { cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ') };
  }
}

// Max-Age wins over Expires (RFC 6265, section 5.3).
function isExpired(attributes) {
  const value = (name) =>
    attributes.find((text) => text.toLowerCase().startsWith(`${name}=`))?.slice(name.length + 1);
  const age = value('max-age');
  if (age !== undefined) return Number(age) <= 0;
  const expires = value('expires');
  return expires !== undefined && Date.parse(expires) <= Date.now();
}
