import { cleanup, configure } from '@testing-library/react';
import { afterEach, beforeEach, vi } from 'vitest';
import { createApi } from '../services/api';
import type { HomeOut, HomeRow, PersonOut, Recommendations } from '../services/types';

configure({ asyncUtilTimeout: 10_000 }); // a busy machine is no failure

beforeEach(() => {
  localStorage.clear();
  // jsdom has neither media queries nor popovers
  vi.stubGlobal('matchMedia', () => ({
    matches: false,
    addEventListener: () => {},
    removeEventListener: () => {},
  }));
  HTMLElement.prototype.hidePopover = () => {};
  window.scrollTo = () => {};
});

afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

export const ADA: PersonOut = {
  user_id: '1',
  name: 'Ada',
  name_ko: '에이다',
  taste: 'Comedies',
  taste_ko: '코미디',
};

/** The list of films with these ids. */
export function listOf(ids: number[], more: Partial<Recommendations> = {}): Recommendations {
  return {
    user_id: '1',
    k: 10,
    path: 'personal',
    model_version: '1',
    snapshot: 's1',
    request_id: 'r1',
    items: ids.map((id) => ({
      movie_id: id,
      title: `Film ${id}`,
      score: 1,
      reason: { text: `Because of ${id}`, because: [] },
      movie: {
        movie_id: id,
        title: `Film ${id}`,
        title_en: null,
        title_ko: null,
        year: 2000 + id,
        genres: ['Drama'],
        runtime: null,
        overview: null,
        directors: [],
        cast: [],
        vote_average: null,
        vote_count: 0,
        popularity: 0,
        poster_url: `/posters/${id}.svg`,
      },
    })),
    ...more,
  };
}

/** A home page with these rows beneath the list. */
export function homeOf(rows: Record<string, number[]>): HomeOut {
  const films = (ids: number[]) => listOf(ids).items.flatMap(({ movie }) => movie ?? []);
  const made = Object.entries(rows).map(([title, ids]): HomeRow => {
    return { key: 'genre', title, about: title, items: films(ids) };
  });
  const { items, ...rest } = listOf([1]);
  return { ...rest, rows: made };
}

type Answer = { status?: number; body: unknown; headers?: Record<string, string> };

/** What a request was: `POST /path` and its body. */
export interface Asked {
  what: string;
  body: Record<string, string>;
  headers: Headers;
}

/** The real client over a network that answers what `answer` says, or fails when it throws. */
export function apiThat(answer: (asked: Asked) => Answer | Promise<Answer>) {
  const asked: Asked[] = [];
  vi.stubGlobal('fetch', async (url: string, init: RequestInit = {}) => {
    const one = {
      what: `${init.method ?? 'GET'} ${url.split('?')[0]}`,
      body: init.body ? JSON.parse(String(init.body)) : {},
      headers: new Headers(init.headers),
    };
    asked.push(one);
    const { status = 200, body, headers = {} } = await answer(one);
    return new Response(JSON.stringify(body), { status, headers });
  });
  return { api: createApi(''), asked };
}
