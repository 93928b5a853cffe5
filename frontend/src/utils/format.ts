import type { Messages } from '../messages';
import type { MovieOut } from '../services/types';

const SHOWN_GENRES = 2;

/** `2016 · Drama, Crime`; what is not known is left out. */
export function yearAndGenres(film: Pick<MovieOut, 'year' | 'genres'>, messages: Messages): string {
  const genres = film.genres
    .slice(0, SHOWN_GENRES)
    .map((genre) => messages.genres[genre] ?? genre)
    .join(', ');
  return [film.year, genres].filter(Boolean).join(' · ');
}

/** One decimal below ten, else none. */
export function milliseconds(value: number): string {
  return value < 10 ? value.toFixed(1) : `${Math.round(value)}`;
}

/** Up to `count` films whose first genres differ as long as they can, in the order given. */
export function spread<T extends { movie?: Pick<MovieOut, 'genres'> | null }>(
  films: readonly T[],
  count: number,
): T[] {
  const seen = new Map<string, number>();
  const round = films.map((film) => {
    const genre = film.movie?.genres[0] ?? '';
    const before = seen.get(genre) ?? 0;
    seen.set(genre, before + 1);
    return before;
  });
  return films
    .map((film, place) => ({ film, round: round[place] ?? 0 }))
    .sort((a, b) => a.round - b.round)
    .slice(0, count)
    .map(({ film }) => film);
}
