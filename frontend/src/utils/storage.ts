const PREFIX = 'movie-mlops.';

/** What was kept under this name, or undefined: storage may be off, full or hold nonsense. */
export function recall<T>(name: string): T | undefined {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined;
  }
}

export function keep(name: string, value: unknown): void {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // the page works without storage, it only forgets
  }
}
