import { useMessages } from '../messages';
import type { RecommendedMovie } from '../services/types';
import { Icon } from './Icon';
import { Poster } from './Poster';

export const WANTED = 3;

interface StarterRowProps {
  films: readonly RecommendedMovie[];
  liked: readonly number[];
  picture(path: string): string;
  onToggle(film: RecommendedMovie): void;
}

/** Popular films of many kinds, for a newcomer to start from. */
export function StarterRow({ films, liked, picture, onToggle }: StarterRowProps) {
  const messages = useMessages();
  return (
    <section className="starter" aria-labelledby="starter-title">
      <div className="starter-head">
        <h2 id="starter-title">{messages.starterTitle}</h2>
        <p role="status">{messages.starterCount(liked.length, WANTED)}</p>
      </div>
      <p>{messages.starterHint}</p>
      <ul>
        {films.length === 0 &&
          Array.from({ length: 12 }, (_, place) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: they are all alike
            <li key={place} className="skeleton">
              <div className="poster" />
            </li>
          ))}
        {films.map((film) => (
          <li key={film.movie_id}>
            <button
              type="button"
              aria-pressed={liked.includes(film.movie_id)}
              aria-label={messages.starterPick(film.title)}
              onClick={() => onToggle(film)}
            >
              <Poster
                url={film.movie ? picture(film.movie.poster_url) : null}
                title={film.title}
                first
              />
              <span className="starter-mark">
                <Icon name={liked.includes(film.movie_id) ? 'check' : 'plus'} />
              </span>
              <span className="starter-name">{film.title}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
