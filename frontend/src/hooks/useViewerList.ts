import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import type { Language } from '../messages';
import { type Api, RefusedError } from '../services/api';
import type { Recommendations, Taste } from '../services/types';
import { newId } from '../utils/ids';
import { keep, recall } from '../utils/storage';
import { withTransition } from '../utils/transition';

export const SLOW_MS = 1_500;
export const AGAIN_MS = 4_000;

/** What a viewer said about a film, and under which event id the API keeps it. */
export interface Mark {
  taste: Taste;
  eventId: string;
}

export interface Told extends Mark {
  movieId: number;
  title: string;
}

/** What a list was asked with. */
export interface Asked {
  language: Language;
  position: string | null;
}

export interface ListState {
  list: Recommendations | null;
  /** With what the API answered the list; another object for each list, null for a kept one. */
  asked: Asked | null;
  milliseconds: number | null;
  /** When the list came, as epoch milliseconds. */
  at: number | null;
  slow: boolean;
  /** `silent`: no answer came; `refused`: an answer, but no list. */
  trouble: 'silent' | 'refused' | null;
  marks: ReadonlyMap<number, Mark>;
  /** Why the API did not take an act, by film. */
  refused: ReadonlyMap<number, string>;
  /** Acts that can still be undone, the newest last. */
  told: readonly Told[];
  undoFailed: boolean;
}

export interface ViewerList extends ListState {
  act(film: { movie_id: number; title: string }, taste: Taste): Promise<boolean>;
  undo(told: Told): Promise<boolean>;
  /** The time to undo is over. */
  forget(eventId: string): void;
  retry(): void;
}

interface Kept {
  userId: string;
  list: Recommendations;
  at: number;
}

const START: ListState = {
  list: null,
  asked: null,
  milliseconds: null,
  at: null,
  slow: false,
  trouble: null,
  marks: new Map(),
  refused: new Map(),
  told: [],
  undoFailed: false,
};

/** One viewer's list and what they do with it; the component that uses it is keyed by viewer. */
export function useViewerList(api: Api, userId: string | null, language: Language): ViewerList {
  const [state, setState] = useState(START);
  const change = useCallback(
    (make: (state: ListState) => Partial<ListState>) =>
      setState((state) => ({ ...state, ...make(state) })),
    [],
  );
  const latest = useRef(0);
  const position = useRef<string | null>(null);
  const sent = useRef(new Map<string, Promise<string>>());

  const load = useCallback(async () => {
    if (userId === null) return;
    latest.current += 1;
    const mine = latest.current;
    const current = () => mine === latest.current;
    const late = setTimeout(() => current() && change(() => ({ slow: true })), SLOW_MS);
    try {
      const asked = { language, position: position.current };
      const { value, milliseconds } = await api.recommendations({ userId, ...asked });
      if (!current()) return;
      const at = Date.now();
      keep('list', { userId, list: value, at } satisfies Kept);
      withTransition(() =>
        change(() => ({ list: value, asked, milliseconds, at, slow: false, trouble: null })),
      );
    } catch (error) {
      if (!current()) return;
      const trouble = error instanceof RefusedError ? 'refused' : 'silent';
      change((state) => ({
        trouble,
        slow: false,
        ...(state.list === null && lastList(userId)),
      }));
    } finally {
      clearTimeout(late);
    }
  }, [api, userId, language, change]);

  useEffect(() => {
    void load();
    return () => {
      latest.current += 1; // what is still under way belongs to nobody now
    };
  }, [load]);

  const { trouble, list, at } = state;
  const showing = useRef(list);
  useEffect(() => {
    showing.current = list;
  }, [list]);
  const [tries, setTries] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: every answer starts the wait anew
  useEffect(() => {
    if (trouble === null && list?.path !== 'static') return;
    const again = () => void load().then(() => setTries((count) => count + 1));
    const timer = setTimeout(again, AGAIN_MS);
    window.addEventListener('online', again);
    return () => {
      clearTimeout(timer);
      window.removeEventListener('online', again);
    };
  }, [trouble, list?.path, at, tries, load]);

  const act = useCallback(
    async (film: { movie_id: number; title: string }, taste: Taste) => {
      if (userId === null) return false;
      const mark = { taste, eventId: newId('page-') };
      const told = { ...mark, movieId: film.movie_id, title: film.title };
      change((state) => ({
        marks: new Map(state.marks).set(film.movie_id, mark),
        refused: without(state.refused, film.movie_id),
        told: [...state.told, told],
        undoFailed: false,
      }));
      const answer = api.tell({
        user_id: userId,
        movie_id: film.movie_id,
        interaction_type: taste,
        event_id: mark.eventId,
        ...origin(showing.current, film.movie_id),
      });
      sent.current.set(mark.eventId, answer);
      try {
        position.current = await answer;
      } catch (error) {
        const why = error instanceof RefusedError ? error.message : '';
        change((state) => ({
          marks: without(state.marks, film.movie_id),
          refused: new Map(state.refused).set(film.movie_id, why),
          told: state.told.filter(({ eventId }) => eventId !== mark.eventId),
        }));
        return false;
      }
      await load();
      return true;
    },
    [api, userId, load, change],
  );

  const undo = useCallback(
    async (told: Told) => {
      if (userId === null) return false;
      change((state) => ({
        marks: without(state.marks, told.movieId),
        told: state.told.filter(({ eventId }) => eventId !== told.eventId),
        undoFailed: false,
      }));
      const arrived = await sent.current.get(told.eventId)?.catch(() => null);
      if (arrived === null) return true; // it was never taken, so nothing is left to undo
      try {
        position.current = await api.tell({
          user_id: userId,
          interaction_type: 'undo',
          event_id: newId('page-'),
          target_event_id: told.eventId,
        });
      } catch {
        change((state) => ({
          marks: new Map(state.marks).set(told.movieId, told),
          undoFailed: true,
        }));
        return false;
      }
      await load();
      return true;
    },
    [api, userId, load, change],
  );

  const forget = useCallback(
    (id: string) =>
      change((state) => ({ told: state.told.filter(({ eventId }) => eventId !== id) })),
    [change],
  );

  return useMemo(
    () => ({ ...state, act, undo, forget, retry: () => void load() }),
    [state, act, undo, forget, load],
  );
}

function lastList(userId: string): Pick<ListState, 'list' | 'at'> | null {
  const kept = recall<Kept>('list');
  return kept?.userId === userId ? { list: kept.list, at: kept.at } : null;
}

/** Which answer an act follows: the shown list's, where the film stands in it. */
function origin(list: Recommendations | null, movieId: number): { request_id?: string } {
  const inList = list?.items.some((item) => item.movie_id === movieId);
  return list && inList ? { request_id: list.request_id } : {};
}

function without<T>(map: ReadonlyMap<number, T>, key: number): ReadonlyMap<number, T> {
  const rest = new Map(map);
  rest.delete(key);
  return rest;
}
