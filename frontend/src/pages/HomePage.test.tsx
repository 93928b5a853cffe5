import { act, fireEvent, render, screen, waitFor, within } from '@testing-library/react';
import { describe, expect, it, vi } from 'vitest';
import { UNDO_MS } from '../components/UndoBar';
import type { HomeOut, Recommendations } from '../services/types';
import { ADA, type Asked, apiThat, homeOf, listOf } from '../utils/testSetup';
import { HomePage } from './HomePage';

const HOME = 'GET /api/v1/home';

function house(
  answer: (asked: Asked) => Recommendations,
  people = [ADA],
  home: (asked: Asked) => HomeOut = () => homeOf({}),
) {
  return apiThat((asked) => {
    if (asked.what === HOME) return { body: home(asked) };
    if (asked.what === 'GET /api/v1/people') return { body: { simulated: true, items: people } };
    if (asked.what === 'GET /model/info') {
      return { body: { algorithm: 'sequence_linear', version: '1' } };
    }
    if (asked.what.startsWith('POST')) {
      return { status: 202, body: { position: '1' }, headers: { 'X-Position': '1' } };
    }
    if (asked.what === 'GET /api/v1/movies/search') {
      return { body: { items: listOf([9]).items.map(({ movie }) => movie) } };
    }
    return { body: answer(asked) };
  });
}

describe('the page', () => {
  it('says whose list it is and what made it, in the language that is chosen', async () => {
    const { api } = house(() => listOf([1, 2]));
    render(<HomePage api={api} />);
    await screen.findByRole('heading', { name: 'Picked for Ada' });
    await waitFor(() => expect(document.title).toBe('Picked for Ada'));
    expect(await screen.findByText('Film 1')).toBeTruthy();
    expect(await screen.findByText(/^personal · sequence_linear v1 · snapshot s1/)).toBeTruthy();
    expect(await screen.findByText(/Invented films, simulated people/)).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: '한국어 (Korean)' }));
    await screen.findByRole('heading', { name: '에이다 님이 좋아할 만한 콘텐츠' });
    expect(document.documentElement.lang).toBe('ko');
    expect((await screen.findAllByText('2001 · 드라마')).length).toBe(1);
  });

  it('does not call real films invented', async () => {
    const list = listOf([1]);
    if (list.items[0]?.movie) list.items[0].movie.poster_url = 'https://image.tmdb.org/t/p/1.jpg';
    const { api } = house(() => list);
    render(<HomePage api={api} />);
    await screen.findByText('Film 1');
    expect(await screen.findByText(/not endorsed or certified by TMDB/)).toBeTruthy();
    expect(screen.queryByText(/Invented films/)).toBeNull();
  });

  it('shows a film that cannot be pictured by its title', async () => {
    const { api } = house(() => listOf([1]));
    const { container } = render(<HomePage api={api} />);
    await screen.findByText('Film 1');
    const picture = container.querySelector('.card img');
    expect(picture?.getAttribute('src')).toBe('/posters/1.svg');
    if (picture) fireEvent.error(picture);
    expect(screen.getByText('No poster')).toBeTruthy();
    expect(screen.getAllByText('Film 1')).toHaveLength(2);
  });

  it('keeps the undo for five seconds', async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const { api, asked } = house(() => listOf([1, 2]));
    render(<HomePage api={api} />);
    fireEvent.click(await screen.findByRole('button', { name: 'Like Film 1' }));
    const bar = screen.getByText('Liked Film 1');
    await waitFor(() => expect(asked.some(({ what }) => what.startsWith('POST'))).toBe(true));
    fireEvent.pointerEnter(bar.closest('.undo-bar') as Element);
    await act(() => vi.advanceTimersByTimeAsync(UNDO_MS * 2));
    expect(screen.getByText('Liked Film 1')).toBeTruthy(); // pointing at it stops the clock
    fireEvent.pointerLeave(bar.closest('.undo-bar') as Element);
    await act(() => vi.advanceTimersByTimeAsync(UNDO_MS + 1));
    expect(screen.queryByText('Liked Film 1')).toBeNull();
  });

  it('lets a newcomer start with three films', async () => {
    localStorage.setItem('movie-mlops.viewer', '"newcomer"');
    const many = Array.from({ length: 30 }, (_, place) => place + 1);
    const { api, asked } = house(() => listOf(many, { path: 'newcomer' }));
    render(<HomePage api={api} />);
    const row = await screen.findByRole('region', { name: 'Tell us three films you like' });
    for (const id of [11, 12, 13]) {
      fireEvent.click(await within(row).findByRole('button', { name: `I like Film ${id}` }));
      await waitFor(() =>
        expect(asked.filter(({ body }) => body.interaction_type === 'like')).toHaveLength(id - 10),
      );
    }
    await waitFor(() => expect(row.isConnected).toBe(false));
    const users = asked.map(({ body }) => body.user_id).filter(Boolean);
    expect(users[0]).toMatch(/^new-[0-9a-f]{24}$/);
    expect(new Set(users).size).toBe(1);
  });

  it('says when everything is seen, and when nothing is there yet', async () => {
    const { api } = house(() => listOf([]));
    render(<HomePage api={api} />);
    await screen.findByText('You have seen everything');
  });

  it('waits for the first films by itself', async () => {
    const { api } = house(() => listOf([], { path: 'static', model_version: 'none' }), []);
    render(<HomePage api={api} />);
    await screen.findByText('The cinema is being furnished');
  });

  it('searches when the typing pauses', async () => {
    const { api, asked } = house(() => listOf([1]));
    render(<HomePage api={api} />);
    await screen.findByText('Film 1');
    const field = screen.getByRole('searchbox');
    for (const value of ['f', 'fi', 'film']) fireEvent.change(field, { target: { value } });
    await screen.findByRole('heading', { name: 'Films with “film”' });
    expect(await screen.findByText('Film 9')).toBeTruthy();
    expect(asked.filter(({ what }) => what.endsWith('/search'))).toHaveLength(1);
    fireEvent.keyDown(field, { key: 'Escape' });
    await screen.findByRole('heading', { name: 'Picked for Ada' });
  });
});

describe('the rows beneath the list', () => {
  it('come after the list, without what stands in it, and are told once', async () => {
    const rows = { War: [2, 3], Drama: [4, 5, 6], Empty: [1] };
    const { api, asked } = house(
      () => listOf([1, 2]),
      [ADA],
      () => homeOf(rows),
    );
    const { container } = render(<HomePage api={api} />);
    expect(await screen.findAllByLabelText('More films are coming')).toHaveLength(3);
    const war = await screen.findByRole('region', { name: 'War' });
    expect(
      within(war)
        .getAllByRole('heading', { level: 3 })
        .map((one) => one.textContent),
    ).toEqual(['Film 3']);
    const shown = [...container.querySelectorAll<HTMLElement>('[data-film]')];
    expect(shown.map(({ dataset }) => dataset.film)).toEqual(['1', '2', '3', '4', '5', '6']);
    expect(screen.queryByRole('region', { name: 'Empty' })).toBeNull();
    expect(screen.queryByLabelText('More films are coming')).toBeNull();
    expect(
      [...container.querySelectorAll('.shelf img')].map((one) => one.getAttribute('loading')),
    ).toEqual(['lazy', 'lazy', 'lazy', 'lazy']);
    expect(asked.filter(({ what }) => what === HOME)).toHaveLength(1);
  });

  it('do what the list does, and are asked for again from the own write', async () => {
    const said: number[] = [];
    const { api, asked } = house(
      () => listOf([1, 2]),
      [ADA],
      () => homeOf({ War: [3, 4, 5].filter((id) => !said.includes(id)) }),
    );
    render(<HomePage api={api} />);
    const button = await screen.findByRole('button', { name: 'Watched Film 4' });
    said.push(4);
    button.focus();
    fireEvent.click(button);
    expect(button.closest('[data-film]')?.getAttribute('data-settled')).toBe('watch');
    await waitFor(() => expect(button.isConnected).toBe(false));
    expect(document.activeElement?.getAttribute('aria-label')).toBe('Watched Film 5');
    const told = asked.find(({ what }) => what.startsWith('POST'));
    expect(told?.body).toMatchObject({ movie_id: 4, interaction_type: 'watch' });
    const homes = asked.filter(({ what }) => what === HOME);
    expect(homes.map(({ headers }) => headers.get('X-Position'))).toEqual([null, '1']);
  });

  it('are walked with the arrow keys', async () => {
    const { api } = house(
      () => listOf([1]),
      [ADA],
      () => homeOf({ War: [3, 4] }),
    );
    render(<HomePage api={api} />);
    const first = await screen.findByRole('button', { name: 'Like Film 3' });
    first.focus();
    for (const [key, name] of [
      ['ArrowRight', 'Like Film 4'],
      ['ArrowRight', 'Like Film 4'],
      ['ArrowLeft', 'Like Film 3'],
      ['ArrowDown', 'Like Film 3'],
    ] as const) {
      fireEvent.keyDown(document.activeElement ?? document.body, { key });
      expect(document.activeElement?.getAttribute('aria-label')).toBe(name);
    }
  });

  it('are left out where they cannot be had, and come with the next list', async () => {
    let broken = true;
    const { api } = house(
      () => listOf([1, 2]),
      [ADA],
      () => {
        if (broken) throw new TypeError('no network');
        return homeOf({ War: [3] });
      },
    );
    render(<HomePage api={api} />);
    const like = await screen.findByRole('button', { name: 'Like Film 1' });
    await waitFor(() => expect(screen.queryByLabelText('More films are coming')).toBeNull());
    expect(screen.queryByRole('alert')).toBeNull();
    broken = false;
    fireEvent.click(like);
    expect(await screen.findByText('Film 3')).toBeTruthy();
  });

  it('wait for a model', async () => {
    const list = listOf([1], { path: 'static', model_version: 'none' });
    const { api, asked } = house(() => list);
    render(<HomePage api={api} />);
    await screen.findByText('Film 1');
    expect(screen.queryByLabelText('More films are coming')).toBeNull();
    expect(asked.some(({ what }) => what === HOME)).toBe(false);
  });
});
