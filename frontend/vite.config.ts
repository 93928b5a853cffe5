import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

const API = 'http://127.0.0.1:8000';

export default defineConfig({
  plugins: [react()],
  envPrefix: ['VITE_', 'REACT_APP_'], // the guide's REACT_APP_API_ENDPOINT is accepted too
  build: {
    target: 'baseline-widely-available',
    assetsInlineLimit: 0, // the page's Content-Security-Policy allows no data: scripts or styles
  },
  server: {
    proxy: Object.fromEntries(['/api', '/posters', '/model', '/health'].map((path) => [path, API])),
  },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.test.{ts,tsx}'],
    setupFiles: ['src/utils/testSetup.ts'],
    testTimeout: 30_000,
    restoreMocks: true,
  },
});
