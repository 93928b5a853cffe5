/** What the API answers; tests/e2e/test_page_types.py compares these with its OpenAPI schema. */

export interface MovieOut {
  movie_id: number;
  title: string;
  title_en: string | null;
  title_ko: string | null;
  year: number | null;
  genres: string[];
  runtime: number | null;
  overview: string | null;
  directors: string[];
  cast: string[];
  vote_average: number | null;
  vote_count: number;
  popularity: number;
  poster_url: string;
}

export interface MovieList {
  items: MovieOut[];
}

export interface Reason {
  text: string;
  because: number[];
}

export interface RecommendedMovie {
  movie_id: number;
  title: string;
  score: number;
  reason: Reason;
  movie?: MovieOut | null;
}

export interface Recommendations {
  user_id: string | null;
  k: number;
  path: 'personal' | 'newcomer' | 'popular' | 'batch' | 'static';
  model_version: string;
  snapshot: string;
  request_id: string;
  without?: number[];
  diversity?: number;
  items: RecommendedMovie[];
}

export interface HomeRow {
  key: 'because' | 'popular' | 'new' | 'genre';
  title: string;
  about: number | string | null;
  items: MovieOut[];
}

export interface HomeOut {
  user_id: string | null;
  k: number;
  path: Recommendations['path'];
  model_version: string;
  snapshot: string;
  request_id: string;
  rows: HomeRow[];
}

export interface PersonOut {
  user_id: string;
  name: string;
  name_ko: string;
  taste: string | null;
  taste_ko: string | null;
}

export interface PeopleOut {
  simulated: boolean;
  items: PersonOut[];
}

export interface ModelInfo {
  task: string;
  model: string;
  version: string;
  algorithm: string;
  snapshot: string;
  challenger: string | null;
  card: Record<string, unknown>;
}

export interface InteractionIn {
  user_id: string;
  movie_id?: number;
  interaction_type: 'like' | 'dislike' | 'watch' | 'undo';
  event_id: string;
  target_event_id?: string;
  /** Of the list in which the viewer saw the film. */
  request_id?: string;
}

export interface Accepted {
  event_id: string;
  status: 'accepted' | 'duplicate';
  position: string;
  known_movie: boolean;
}

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance: string;
  request_id: string;
}

export type Taste = 'like' | 'dislike' | 'watch';
export type Path = Recommendations['path'];
