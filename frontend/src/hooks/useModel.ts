import { useEffect, useState } from 'react';
import type { Api } from '../services/api';
import type { ModelInfo } from '../services/types';

/** What is known of the model of this version; null until it is, and where there is no model. */
export function useModel(api: Api, version: string | undefined): ModelInfo | null {
  const [model, setModel] = useState<ModelInfo | null>(null);
  useEffect(() => {
    if (version === undefined || version === 'none') return;
    let over = false;
    api.model().then(
      (found) => !over && setModel(found),
      () => {}, // the line is shown without the algorithm's name
    );
    return () => {
      over = true;
    };
  }, [api, version]);
  return model?.version === version ? model : null;
}
