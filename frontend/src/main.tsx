import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { HomePage } from './pages/HomePage';
import { createApi } from './services/api';
import './styles/tokens.css';
import './styles/page.css';

const endpoint: string =
  import.meta.env.VITE_API_ENDPOINT ?? import.meta.env.REACT_APP_API_ENDPOINT ?? '';
const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <HomePage api={createApi(endpoint)} />
    </StrictMode>,
  );
}
