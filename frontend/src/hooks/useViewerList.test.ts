import { act, renderHook, waitFor } from '@testing-library/react';
import { describe, expect, it, vi } from 'vitest';
import { type Asked, apiThat, listOf } from '../utils/testSetup';
import { AGAIN_MS, SLOW_MS, useViewerList } from './useViewerList';

const LIST = 'GET /api/v1/recommendations';
const EVENT = 'POST /api/v1/events/user-interaction';
const FILM = { movie_id: 1, title: 'Film 1' };

function accepted(position: string) {
  const body = { event_id: 'e', status: 'accepted', position, known_movie: true };
  return { status: 202, body, headers: { 'X-Position': position } };
}

/** An API that really takes films away and gives them back. */
function honestApi(refuse?: (asked: Asked) => { status: number; body: unknown } | undefined) {
  const said = new Map<string, number>();
  let position = 0;
  return apiThat((asked) => {
    const refusal = refuse?.(asked);
    if (refusal) return refusal;
    if (asked.what === LIST) {
      const gone = new Set(said.values());
      return { body: listOf([1, 2, 3, 4, 5].filter((id) => !gone.has(id)).slice(0, 3)) };
    }
    const { event_id, target_event_id, movie_id } = asked.body;
    if (target_event_id) said.delete(target_event_id);
    else said.set(event_id ?? '', Number(movie_id));
    position += 1;
    return accepted(`${position}`);
  });
}

function ids(list: { items: { movie_id: number }[] } | null) {
  return list?.items.map((item) => item.movie_id);
}

describe('what a viewer says', () => {
  it('settles the card at once and reads the new list from its own write', async () => {
    const { api, asked } = honestApi();
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(ids(result.current.list)).toEqual([1, 2, 3]));

    let done: Promise<boolean> | undefined;
    act(() => {
      done = result.current.act(FILM, 'like');
    });
    expect(result.current.marks.get(1)?.taste).toBe('like');
    expect(ids(result.current.list)).toEqual([1, 2, 3]);
    await act(async () => expect(await done).toBe(true));

    expect(ids(result.current.list)).toEqual([2, 3, 4]);
    const event = asked.find(({ what }) => what === EVENT);
    expect(event?.body).toMatchObject({ user_id: '1', movie_id: 1, interaction_type: 'like' });
    expect(asked.at(-1)?.what).toBe(LIST);
    expect(asked.at(-1)?.headers.get('X-Position')).toBe('1');
  });

  it('names the list that showed the film, and none for another film', async () => {
    const { api, asked } = honestApi();
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(result.current.list).not.toBeNull());
    for (const movie_id of [2, 99]) {
      await act(async () => void (await result.current.act({ movie_id, title: '' }, 'like')));
    }
    const told = asked.filter(({ what }) => what === EVENT);
    expect(told.map(({ body }) => body.request_id)).toEqual(['r1', undefined]);
  });

  it('can be undone by the id of its event', async () => {
    const { api, asked } = honestApi();
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(result.current.list).not.toBeNull());
    await act(async () => void (await result.current.act(FILM, 'dislike')));
    const told = result.current.told[0];
    expect(told?.title).toBe('Film 1');
    if (told) await act(async () => void (await result.current.undo(told)));

    expect(ids(result.current.list)).toEqual([1, 2, 3]);
    expect(result.current.marks.size).toBe(0);
    expect(result.current.told).toEqual([]);
    const [said, undone] = asked.filter(({ what }) => what === EVENT);
    expect(undone?.body).toMatchObject({
      interaction_type: 'undo',
      target_event_id: said?.body.event_id,
    });
    expect(undone?.body.event_id).not.toBe(said?.body.event_id);
  });

  it('comes back with the reason when it is refused', async () => {
    const { api } = honestApi(({ what }) =>
      what === EVENT ? { status: 429, body: { detail: 'too many writes' } } : undefined,
    );
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(result.current.list).not.toBeNull());
    await act(async () => expect(await result.current.act(FILM, 'watch')).toBe(false));

    expect(result.current.marks.size).toBe(0);
    expect(result.current.told).toEqual([]);
    expect(result.current.refused.get(1)).toBe('too many writes');
    expect(ids(result.current.list)).toEqual([1, 2, 3]);
  });

  it('is sent once more under the same id when the network failed', async () => {
    let failed = false;
    const { api, asked } = honestApi(({ what }) => {
      if (what !== EVENT || failed) return undefined;
      failed = true;
      throw new TypeError('network');
    });
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(result.current.list).not.toBeNull());
    await act(async () => expect(await result.current.act(FILM, 'like')).toBe(true));
    const events = asked.filter(({ what }) => what === EVENT);
    expect(events).toHaveLength(2);
    expect(events[0]?.body.event_id).toBe(events[1]?.body.event_id);
  });

  it('stays said when the undo fails', async () => {
    const { api } = honestApi(({ body }) =>
      body.interaction_type === 'undo' ? { status: 422, body: { detail: 'no' } } : undefined,
    );
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(result.current.list).not.toBeNull());
    await act(async () => void (await result.current.act(FILM, 'like')));
    const told = result.current.told[0];
    if (told) await act(async () => expect(await result.current.undo(told)).toBe(false));
    expect(result.current.undoFailed).toBe(true);
    expect(result.current.marks.get(1)?.taste).toBe('like');
  });
});

describe('a list that does not come', () => {
  it('leaves the last one in place and asks again by itself', async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    let up = true;
    const { api } = apiThat(() => {
      if (!up) throw new TypeError('gone');
      return { body: listOf([1, 2]) };
    });
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(result.current.list).not.toBeNull());
    up = false;
    act(() => result.current.retry());
    await waitFor(() => expect(result.current.trouble).toBe('silent'));
    expect(ids(result.current.list)).toEqual([1, 2]);
    up = true;
    await act(() => vi.advanceTimersByTimeAsync(AGAIN_MS));
    expect(result.current.trouble).toBeNull();
  });

  it('is replaced by the one this browser kept, of the same viewer only', async () => {
    let up = true;
    const { api } = apiThat(() => {
      if (!up) throw new TypeError('gone');
      return { body: listOf([7]) };
    });
    const first = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(first.result.current.list).not.toBeNull());
    first.unmount();
    up = false;
    const again = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(again.result.current.trouble).toBe('silent'));
    expect(ids(again.result.current.list)).toEqual([7]);
    const other = renderHook(() => useViewerList(api, '2', 'en'));
    await waitFor(() => expect(other.result.current.trouble).toBe('silent'));
    expect(other.result.current.list).toBeNull();
  });

  it('is called slow, and an older answer never replaces a newer one', async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const waiting: ((ids: number[]) => void)[] = [];
    const { api } = apiThat(
      () => new Promise((answer) => waiting.push((found) => answer({ body: listOf(found) }))),
    );
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await act(() => vi.advanceTimersByTimeAsync(SLOW_MS));
    expect(result.current.slow).toBe(true);
    act(() => result.current.retry());
    await act(async () => waiting[1]?.([2]));
    await waitFor(() => expect(ids(result.current.list)).toEqual([2]));
    await act(async () => waiting[0]?.([1]));
    expect(ids(result.current.list)).toEqual([2]);
    expect(result.current.slow).toBe(false);
  });

  it('is asked for again while no model is there', async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    let path: 'static' | 'personal' = 'static';
    const { api } = apiThat(() => ({ body: listOf([1], { path }) }));
    const { result } = renderHook(() => useViewerList(api, '1', 'en'));
    await waitFor(() => expect(result.current.list?.path).toBe('static'));
    path = 'personal';
    await act(() => vi.advanceTimersByTimeAsync(AGAIN_MS));
    await waitFor(() => expect(result.current.list?.path).toBe('personal'));
  });
});
