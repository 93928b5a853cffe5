import { type FocusEvent, useLayoutEffect, useRef } from 'react';
import type { ViewerList } from '../hooks/useViewerList';
import type { Taste } from '../services/types';
import { type CardFilm, MovieCard } from './MovieCard';

export interface CardGridProps {
  films: readonly CardFilm[];
  label: string;
  marks: ViewerList['marks'];
  refused: ViewerList['refused'];
  /** One row to scroll through, below the first screen. */
  shelf?: boolean;
  onAct(film: CardFilm, taste: Taste): void;
}

const FIRST_SCREEN = 10;

/** Films as cards. When the focused card leaves, the card now in its place takes the focus. */
export function CardGrid(props: CardGridProps) {
  const { films, label, marks, refused, shelf = false, onAct } = props;
  const grid = useRef<HTMLUListElement>(null);
  const focused = useRef<{ place: number; act: string } | null>(null);

  function remember({ target }: FocusEvent<HTMLUListElement>) {
    const card = target.closest('[data-film]');
    const act = (target as HTMLElement).dataset.act;
    const cards = [...(grid.current?.children ?? [])];
    focused.current = card && act ? { place: cards.indexOf(card), act } : null;
  }

  // biome-ignore lint/correctness/useExhaustiveDependencies: runs when the films have changed
  useLayoutEffect(() => {
    const lost = focused.current;
    if (lost === null || document.activeElement !== document.body) return;
    const cards = grid.current?.children ?? [];
    const card = cards[Math.min(lost.place, cards.length - 1)];
    card?.querySelector<HTMLElement>(`[data-act="${lost.act}"]`)?.focus({ preventScroll: true });
  }, [films]);

  return (
    <ul
      ref={grid}
      className={shelf ? 'shelf-films' : 'grid'}
      aria-label={label}
      onFocus={remember}
      onBlur={forget}
    >
      {films.map((film, place) => (
        <MovieCard
          key={film.movie_id}
          film={film}
          mark={marks.get(film.movie_id)}
          refused={refused.get(film.movie_id)}
          first={!shelf && place < FIRST_SCREEN}
          still={shelf}
          onAct={onAct}
        />
      ))}
    </ul>
  );

  function forget({ relatedTarget }: FocusEvent<HTMLUListElement>) {
    // a removed card blurs to nothing; going elsewhere blurs to something
    if (relatedTarget !== null) focused.current = null;
  }
}

interface CardSkeletonsProps {
  count: number;
  label: string;
  shelf?: boolean;
}

/** Cards to come, of the size of the cards that come. */
export function CardSkeletons({ count, label, shelf = false }: CardSkeletonsProps) {
  return (
    <ul className={shelf ? 'shelf-films' : 'grid'} aria-busy="true" aria-label={label}>
      {Array.from({ length: count }, (_, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: they are all alike
        <li key={place} className="card skeleton">
          <div className="poster" />
          <div className="bar" />
          <div className="bar short" />
          <div className="bar" />
          <div className="card-acts" />
        </li>
      ))}
    </ul>
  );
}
