import { useEffect, useState } from 'react';
import type { Api } from '../services/api';
import type { HomeRow } from '../services/types';
import type { Asked } from './useViewerList';

/**
 * The rows beneath one viewer's list; null until they are there. They are asked for after each new
 * list, as it was asked for, and stay as they were where they cannot be had.
 */
export function useShelves(
  api: Api,
  userId: string | null,
  asked: Asked | null,
): readonly HomeRow[] | null {
  const [rows, setRows] = useState<readonly HomeRow[] | null>(null);
  useEffect(() => {
    if (userId === null || asked === null) return;
    const over = new AbortController();
    api.home({ userId, ...asked, signal: over.signal }).then(
      (home) => over.signal.aborted || setRows(home.rows),
      () => over.signal.aborted || setRows((before) => before ?? []), // the list says what is wrong
    );
    return () => over.abort();
  }, [api, userId, asked]);
  return rows;
}
