import type { Language } from '../messages';
import type {
  Accepted,
  HomeOut,
  InteractionIn,
  ModelInfo,
  MovieList,
  PeopleOut,
  Problem,
  Recommendations,
} from './types';

const LIST_LENGTH = 10;
const TIMEOUT_MS = 15_000;
const RETRY_MS = 400;

/** The API answered that it will not or cannot; `detail` says why in its own words. */
export class RefusedError extends Error {
  readonly status: number;
  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

/** No answer came: no server, no network, or too late. */
export class SilentError extends Error {}

export interface Timed<T> {
  value: T;
  milliseconds: number;
}

export interface ListQuery {
  userId: string | null;
  language: Language;
  k?: number;
  position?: string | null;
  signal?: AbortSignal;
}

/** What the page asks of the API; tests hand in another one. */
export interface Api {
  recommendations(query: ListQuery): Promise<Timed<Recommendations>>;
  /** The rows of a home page beneath the list. */
  home(query: ListQuery): Promise<HomeOut>;
  people(): Promise<PeopleOut>;
  search(text: string, language: Language, signal?: AbortSignal): Promise<MovieList>;
  model(): Promise<ModelInfo>;
  /** Tell what a viewer did; resolves with the position to read one's own write from. */
  tell(event: InteractionIn): Promise<string>;
  /** A picture's address: the API's own ones are relative to it. */
  picture(path: string): string;
}

export function createApi(endpoint: string): Api {
  const base = endpoint.replace(/\/+$/, '');
  const get = <T>(path: string, init: RequestInit = {}) => request<T>(base + path, init);
  return {
    async recommendations(query) {
      const start = performance.now();
      const path = `/api/v1/recommendations?expand=movie&${wordsOf(query)}`;
      const { value } = await get<Recommendations>(path, howOf(query));
      return { value, milliseconds: performance.now() - start };
    },
    home: async (query) =>
      (await get<HomeOut>(`/api/v1/home?${wordsOf(query)}&for_you=false`, howOf(query))).value,
    people: async () => (await get<PeopleOut>('/api/v1/people')).value,
    async search(text, language, signal) {
      const query = new URLSearchParams({ q: text.slice(0, 100), lang: language, limit: '30' });
      return (await get<MovieList>(`/api/v1/movies/search?${query}`, { ...(signal && { signal }) }))
        .value;
    },
    model: async () => (await get<ModelInfo>('/model/info?task=recommendation')).value,
    async tell(event) {
      const send = () =>
        get<Accepted>('/api/v1/events/user-interaction', {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify(event),
        });
      const { value, headers } = await once_more(send);
      return headers.get('X-Position') ?? value.position;
    },
    picture: (path) => (path.startsWith('/') ? base + path : path),
  };
}

function wordsOf({ userId, language, k = LIST_LENGTH }: ListQuery): URLSearchParams {
  const words = new URLSearchParams({ k: `${k}`, lang: language });
  if (userId !== null) words.set('user_id', userId);
  return words;
}

function howOf({ position, signal }: ListQuery): RequestInit {
  return {
    ...(signal && { signal }),
    ...(position && { headers: { 'X-Position': position } }),
  };
}

/** The event carries its own id, so sending it twice counts once. */
async function once_more<T>(send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    if (error instanceof RefusedError && error.status !== 503) throw error;
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
    return send();
  }
}

async function request<T>(url: string, init: RequestInit): Promise<{ value: T; headers: Headers }> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
  try {
    const answer = await fetch(url, { ...init, signal });
    if (!answer.ok) throw await refusal(answer);
    return { value: (await answer.json()) as T, headers: answer.headers };
  } catch (error) {
    if (error instanceof RefusedError || init.signal?.aborted) throw error;
    throw new SilentError(String(error));
  }
}

async function refusal(answer: Response): Promise<RefusedError | SilentError> {
  const problem = (await answer.json().catch(() => null)) as Problem | null;
  // a proxy in front answers 502 or 504 in its own words when the API is gone
  if (problem === null && answer.status >= 500) return new SilentError(answer.statusText);
  return new RefusedError(answer.status, problem?.detail ?? answer.statusText);
}
