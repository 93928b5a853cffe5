import type { Mark } from '../hooks/useViewerList';
import { useMessages } from '../messages';
import type { Taste } from '../services/types';
import { Icon } from './Icon';
import { Poster } from './Poster';

export interface CardFilm {
  movie_id: number;
  title: string;
  posterUrl: string | null;
  facts: string;
  reason?: string;
}

interface MovieCardProps {
  film: CardFilm;
  mark?: Mark | undefined;
  /** Why the API did not take what was said; empty when no answer came. */
  refused?: string | undefined;
  first?: boolean;
  /** Takes no part in transitions: what is scrolled out of a row would be drawn beside it. */
  still?: boolean;
  onAct(film: CardFilm, taste: Taste): void;
}

const TASTES: readonly Taste[] = ['like', 'dislike', 'watch'];

/** One film: poster, title, facts, the reason, and the three things to say about it. */
export function MovieCard(props: MovieCardProps) {
  const { film, mark, refused, first = false, still = false, onAct } = props;
  const messages = useMessages();
  return (
    <li
      className="card"
      data-film={film.movie_id}
      data-settled={mark?.taste}
      style={still ? undefined : { viewTransitionName: `film-${film.movie_id}` }}
    >
      <article aria-labelledby={`title-${film.movie_id}`}>
        <div className="card-picture">
          <Poster url={film.posterUrl} title={film.title} first={first} />
          {mark && (
            <span className="card-settled">
              <Icon name={mark.taste} filled={mark.taste === 'like'} />
              {messages.settled[mark.taste]}
            </span>
          )}
        </div>
        <div className="card-text">
          <h3 id={`title-${film.movie_id}`} className="card-title">
            {film.title}
          </h3>
          <p className="card-facts">{film.facts}</p>
          {film.reason && <p className="card-reason">{film.reason}</p>}
        </div>
        {refused !== undefined && (
          <p className="card-refused" role="alert">
            {messages.refused(refused || messages.gone)}
          </p>
        )}
        <div className="card-acts">
          {TASTES.map((taste) => (
            <button
              key={taste}
              type="button"
              className="icon-button"
              data-act={taste}
              aria-label={messages[taste](film.title)}
              aria-pressed={mark?.taste === taste}
              aria-disabled={mark !== undefined && mark.taste !== taste}
              title={messages[`${taste}Short`]}
              onClick={() => onAct(film, taste)}
            >
              <Icon name={taste} filled={taste === 'like' && mark?.taste === taste} />
            </button>
          ))}
        </div>
      </article>
    </li>
  );
}
