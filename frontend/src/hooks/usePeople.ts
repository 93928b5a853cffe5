import { useEffect, useState } from 'react';
import type { Api } from '../services/api';
import type { PeopleOut } from '../services/types';

const AGAIN_MS = 4_000;

/** The people one can be; null until the API answers, asked again while there are none. */
export function usePeople(api: Api): { people: PeopleOut | null; asked: boolean } {
  const [people, setPeople] = useState<PeopleOut | null>(null);
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    async function ask() {
      const found = await api.people().catch(() => null);
      if (over) return;
      if (found?.items.length) setPeople(found);
      else timer = setTimeout(ask, AGAIN_MS);
      setAsked(true);
    }
    void ask();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [api]);
  return { people, asked };
}
