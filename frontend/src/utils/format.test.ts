import { describe, expect, it } from 'vitest';
import { en } from '../messages/en';
import { ko } from '../messages/ko';
import { milliseconds, spread, yearAndGenres } from './format';

describe('facts', () => {
  it('leaves out what is not known', () => {
    expect(yearAndGenres({ year: 2016, genres: ['Drama', 'War', 'Music'] }, en)).toBe(
      '2016 · Drama, War',
    );
    expect(yearAndGenres({ year: null, genres: ['Drama'] }, ko)).toBe('드라마');
    expect(yearAndGenres({ year: null, genres: [] }, ko)).toBe('');
  });
  it('shows a decimal only where it matters', () => {
    expect([0.42, 9.94, 12.5].map(milliseconds)).toEqual(['0.4', '9.9', '13']);
  });
});

describe('spread', () => {
  it('takes every genre once before any twice', () => {
    const films = ['A', 'A', 'B', 'A', 'C', 'B'].map((genre, id) => ({
      id,
      movie: { genres: [genre] },
    }));
    expect(spread(films, 5).map(({ id }) => id)).toEqual([0, 2, 4, 1, 5]);
  });
});

describe('messages', () => {
  it('say the same things in both languages', () => {
    expect(Object.keys(ko)).toEqual(Object.keys(en));
  });
});
