import { useMessages } from '../messages';

export const REAL_COMMANDS = {
  movieLens: 'make up SOURCE=movielens DATA=ml-latest-small',
  tmdb: 'make up SOURCE=tmdb',
};

interface OriginProps {
  invented: boolean;
  simulated: boolean;
}

/** Says plainly what is made up here, and how to get the real thing. */
export function Origin({ invented, simulated }: OriginProps) {
  const messages = useMessages();
  if (!invented && !simulated) return null;
  if (!invented) return <p className="origin">{messages.simulatedPeople}</p>;
  return (
    <details className="origin">
      <summary>
        {messages.invented} · <u>{messages.realHow}</u>
      </summary>
      <p>{messages.realHowText}</p>
      <dl>
        <dt>
          <code>{REAL_COMMANDS.movieLens}</code>
        </dt>
        <dd>{messages.realMovieLens}</dd>
        <dt>
          <code>{REAL_COMMANDS.tmdb}</code>
        </dt>
        <dd>{messages.realTmdb}</dd>
      </dl>
    </details>
  );
}
