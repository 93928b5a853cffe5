import { useCallback, useMemo, useState } from 'react';
import type { PeopleOut, PersonOut } from '../services/types';
import { newId } from '../utils/ids';
import { keep, recall } from '../utils/storage';

/** Somebody without a history; `liked` are the films told at the start. */
export interface Newcomer {
  id: string;
  liked: number[];
}

export type Viewer = { person: PersonOut } | { newcomer: Newcomer };

type Choice = { person: string } | 'newcomer' | undefined;

/** Who looks at the page; kept in this browser. Null until the people are known. */
export function useViewer(people: PeopleOut | null, asked: boolean) {
  const [choice, setChoice] = useState<Choice>(() => recall('viewer'));
  const [newcomer, setNewcomer] = useState<Newcomer>(() => recall('newcomer') ?? freshNewcomer());

  const viewer = useMemo((): Viewer | null => {
    if (choice === 'newcomer') return { newcomer };
    const chosen = people?.items.find(({ user_id }) => user_id === choice?.person);
    const person = chosen ?? people?.items[0];
    if (person) return { person };
    return asked ? { newcomer } : null;
  }, [choice, newcomer, people, asked]);

  const choose = useCallback((next: Choice) => {
    keep('viewer', next);
    setChoice(next);
  }, []);
  const becomePerson = useCallback((person: string) => choose({ person }), [choose]);
  const becomeNewcomer = useCallback(
    (again: boolean) => {
      if (again) setNewcomer(freshNewcomer());
      choose('newcomer');
    },
    [choose],
  );
  /** Note that the newcomer likes a film, or no longer does. */
  const noteLiked = useCallback((movieId: number, likes: boolean) => {
    setNewcomer((before) => {
      const rest = before.liked.filter((id) => id !== movieId);
      const after = { ...before, liked: likes ? [...rest, movieId] : rest };
      keep('newcomer', after);
      return after;
    });
  }, []);
  return { viewer, newcomer, becomePerson, becomeNewcomer, noteLiked };
}

function freshNewcomer(): Newcomer {
  const made = { id: newId('new-'), liked: [] };
  keep('newcomer', made);
  return made;
}
