import { useCallback, useEffect, useMemo } from 'react';
import { CardGrid, CardSkeletons } from '../components/CardGrid';
import type { CardFilm } from '../components/MovieCard';
import { Blank, Notice } from '../components/Notice';
import { Origin } from '../components/Origin';
import { Shelf, ShelfSkeletons } from '../components/Shelf';
import { StarterRow, WANTED } from '../components/StarterRow';
import { UndoBar } from '../components/UndoBar';
import { SWITCH_ID } from '../components/ViewerSwitch';
import { WhyThisList } from '../components/WhyThisList';
import { useKeys } from '../hooks/useKeys';
import { useModel } from '../hooks/useModel';
import { type Found, useSearch } from '../hooks/useSearch';
import { useShelves } from '../hooks/useShelves';
import { useStarters } from '../hooks/useStarters';
import type { Newcomer } from '../hooks/useViewer';
import { type Told, useViewerList, type ViewerList } from '../hooks/useViewerList';
import { type Language, type Messages, useMessages } from '../messages';
import type { Api } from '../services/api';
import type { HomeRow, MovieOut, Taste } from '../services/types';
import { yearAndGenres } from '../utils/format';

interface ViewerSectionProps {
  api: Api;
  /** Null until the people are known. */
  userId: string | null;
  name: string;
  newcomer: Newcomer | null;
  onLiked(movieId: number, likes: boolean): void;
  language: Language;
  search: string;
  simulated: boolean;
  onTmdb(shown: boolean): void;
}

/** One viewer's list with all its states, or what they search for. */
export function ViewerSection(props: ViewerSectionProps) {
  const { api, userId, name, newcomer, onLiked, language, simulated, onTmdb } = props;
  const messages = useMessages();
  const viewer = useViewerList(api, userId, language);
  const { list, marks, told, act, undo } = viewer;
  const found = useSearch(api, props.search, language);
  const model = useModel(api, list?.model_version);
  const starting = newcomer !== null && newcomer.liked.length < WANTED;
  const starters = useStarters(api, starting, language);
  const rows = useShelves(api, userId, list?.path === 'static' ? null : viewer.asked);
  const heading = userId === null ? '\u00a0' : messages.title(name);

  useEffect(() => {
    if (userId !== null) document.title = heading;
  }, [userId, heading]);

  const pictures = list?.items.map(({ movie }) => movie?.poster_url ?? '') ?? [];
  const tmdb = pictures.some((url) => url.startsWith('https://image.tmdb.org/'));
  useEffect(() => onTmdb(tmdb), [tmdb, onTmdb]);
  const invented = simulated && !pictures.some((url) => url.startsWith('https:'));

  const takeBack = useCallback(
    async (one: Told) => {
      const likes = newcomer?.liked.includes(one.movieId);
      if (likes) onLiked(one.movieId, false);
      if (!(await undo(one)) && likes) onLiked(one.movieId, true);
    },
    [newcomer, onLiked, undo],
  );

  const say = useCallback(
    async (film: { movie_id: number; title: string }, taste: Taste) => {
      const mark = marks.get(film.movie_id);
      if (mark) {
        const one = { ...mark, movieId: film.movie_id, title: film.title };
        return mark.taste === taste ? takeBack(one) : undefined;
      }
      const likes = newcomer !== null && taste === 'like';
      if (likes) onLiked(film.movie_id, true);
      if (!(await act(film, taste)) && likes) onLiked(film.movie_id, false);
    },
    [act, marks, newcomer, onLiked, takeBack],
  );

  const undoLast = useCallback(() => {
    const last = told.at(-1);
    if (last) void takeBack(last);
  }, [told, takeBack]);
  useKeys(useMemo(() => ({ z: undoLast }), [undoLast]));

  const cards = useMemo(
    () =>
      list?.items.map((item): CardFilm => {
        const film = item.movie ?? null;
        return {
          movie_id: item.movie_id,
          title: item.title,
          posterUrl: film && api.picture(film.poster_url),
          facts: film ? yearAndGenres(film, messages) : '',
          reason: item.reason.text,
        };
      }) ?? null,
    [list, api, messages],
  );

  const shelves = useMemo(() => {
    const shown = new Set(list?.items.map(({ movie_id }) => movie_id));
    if (starting) for (const { movie_id } of starters) shown.add(movie_id);
    return rows && shelvesOf(rows, shown, (film) => cardOf(film, api, messages));
  }, [rows, list, starting, starters, api, messages]);

  const searching = found.text !== null;
  return (
    <>
      {searching ? (
        <SearchResults found={found} viewer={viewer} onAct={say} api={api} />
      ) : (
        <>
          <div className="heading">
            <h1>{heading}</h1>
            <div className="curious">
              {list && <WhyThisList list={list} milliseconds={viewer.milliseconds} model={model} />}
              {list && list.items.length > 0 && (
                <Origin invented={invented} simulated={simulated} />
              )}
            </div>
          </div>
          {starting && list?.path !== 'static' && !viewer.trouble && (
            <StarterRow
              films={starters}
              liked={newcomer.liked}
              picture={api.picture}
              onToggle={(film) => say(film, 'like')}
            />
          )}
          <Notices viewer={viewer} language={language} />
          {cards === null && !viewer.trouble && (
            <CardSkeletons count={10} label={messages.loading} />
          )}
          {cards !== null && cards.length > 0 && (
            <CardGrid
              films={cards}
              label={heading}
              marks={marks}
              refused={viewer.refused}
              onAct={say}
            />
          )}
          {cards?.length === 0 && !viewer.trouble && <NoFilms path={list?.path} />}
          {list?.path !== 'static' && (
            <div className="shelves">
              {shelves === null && !viewer.trouble && <ShelfSkeletons count={3} />}
              {shelves?.map(({ key, title, films }) => (
                <Shelf
                  key={key}
                  films={films}
                  label={title}
                  marks={marks}
                  refused={viewer.refused}
                  onAct={say}
                />
              ))}
            </div>
          )}
        </>
      )}
      <UndoBar told={told} failed={viewer.undoFailed} onUndo={takeBack} onOver={viewer.forget} />
    </>
  );
}

function cardOf(film: MovieOut, api: Api, messages: Messages): CardFilm {
  return {
    movie_id: film.movie_id,
    title: film.title,
    posterUrl: api.picture(film.poster_url),
    facts: yearAndGenres(film, messages),
  };
}

interface FilmsOfRow {
  key: string;
  title: string;
  films: CardFilm[];
}

/** The rows without what already stands above them; a row of which nothing is left goes. */
function shelvesOf(
  rows: readonly HomeRow[],
  shown: ReadonlySet<number>,
  card: (film: MovieOut) => CardFilm,
): FilmsOfRow[] {
  return rows
    .map(({ key, about, title, items }) => ({
      key: `${key} ${about}`,
      title,
      films: items.filter(({ movie_id }) => !shown.has(movie_id)).map(card),
    }))
    .filter(({ films }) => films.length > 0);
}

function Notices({ viewer, language }: { viewer: ViewerList; language: Language }) {
  const messages = useMessages();
  const { trouble, list, at, slow } = viewer;
  if (trouble) {
    const what = trouble === 'silent' ? messages.gone : messages.failed;
    const when =
      at === null ? '' : ` (${messages.backAt(new Date(at).toLocaleTimeString(language))})`;
    const rest = list ? `${messages.goneKept}${when}` : messages.goneEmpty;
    return (
      <Notice urgent text={`${what} ${rest}`} action={messages.retry} onAction={viewer.retry} />
    );
  }
  if (slow) return <Notice text={messages.slow} />;
  if (list?.path === 'static' && list.items.length > 0) return <Notice text={messages.training} />;
  return null;
}

function NoFilms({ path }: { path: string | undefined }) {
  const messages = useMessages();
  if (path === 'static') {
    return (
      <Blank title={messages.furnishingTitle}>
        <p>{messages.furnishingText}</p>
      </Blank>
    );
  }
  return (
    <Blank title={messages.seenTitle}>
      <p>{messages.seenText}</p>
      <button type="button" className="plain" popoverTarget={SWITCH_ID}>
        {messages.switchViewer}
      </button>
    </Blank>
  );
}

interface SearchResultsProps {
  found: Found;
  viewer: ViewerList;
  api: Api;
  onAct(film: CardFilm, taste: Taste): void;
}

function SearchResults({ found, viewer, api, onAct }: SearchResultsProps) {
  const messages = useMessages();
  const text = found.text ?? '';
  const films = found.films?.map((film) => cardOf(film, api, messages));
  return (
    <>
      <div className="heading">
        <h1>{messages.searchTitle(text)}</h1>
        <p className="curious" role="status">
          {films && messages.searchCount(films.length)}
        </p>
      </div>
      {found.failed && <Notice urgent text={messages.gone} />}
      {films?.length === 0 && (
        <Blank title={messages.searchNothing(text)}>
          <p>{messages.searchNothingHint}</p>
        </Blank>
      )}
      {films && films.length > 0 && (
        <CardGrid
          films={films}
          label={messages.searchTitle(text)}
          marks={viewer.marks}
          refused={viewer.refused}
          onAct={onAct}
        />
      )}
    </>
  );
}
