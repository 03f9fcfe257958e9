weir_fuzz(grpc_answer_fuzz SOURCES grpc_answer_fuzz.cc LIBRARIES weir_client)
