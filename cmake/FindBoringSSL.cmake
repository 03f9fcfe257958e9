# BoringSSL, either Debian's android-libboringssl-dev or an upstream build that
# -DBORINGSSL_ROOT= points to (its include/ and the libraries beside or below it).
# Defines BoringSSL::ssl and BoringSSL::crypto. Never link OpenSSL beside it:
# the symbols clash.
set(BORINGSSL_ROOT "" CACHE PATH "Root of an upstream BoringSSL build")
find_path(BoringSSL_INCLUDE_DIR openssl/base.h
  HINTS ${BORINGSSL_ROOT}/include PATHS /usr/include/android NO_DEFAULT_PATH)
find_library(BoringSSL_SSL_LIBRARY ssl
  HINTS ${BORINGSSL_ROOT} ${BORINGSSL_ROOT}/lib ${BORINGSSL_ROOT}/build/ssl ${BORINGSSL_ROOT}/build
  PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/android /usr/lib/x86_64-linux-gnu/android
        /usr/lib/aarch64-linux-gnu/android NO_DEFAULT_PATH)
find_library(BoringSSL_CRYPTO_LIBRARY crypto
  HINTS ${BORINGSSL_ROOT} ${BORINGSSL_ROOT}/lib ${BORINGSSL_ROOT}/build/crypto ${BORINGSSL_ROOT}/build
  PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/android /usr/lib/x86_64-linux-gnu/android
        /usr/lib/aarch64-linux-gnu/android NO_DEFAULT_PATH)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(BoringSSL
  REQUIRED_VARS BoringSSL_SSL_LIBRARY BoringSSL_CRYPTO_LIBRARY BoringSSL_INCLUDE_DIR)
if(BoringSSL_FOUND AND NOT TARGET BoringSSL::ssl)
  get_filename_component(BoringSSL_LIBRARY_DIR ${BoringSSL_SSL_LIBRARY} DIRECTORY)
  foreach(part crypto ssl)
    string(TOUPPER ${part} upper)
    add_library(BoringSSL::${part} UNKNOWN IMPORTED)
    set_target_properties(BoringSSL::${part} PROPERTIES
      IMPORTED_LOCATION ${BoringSSL_${upper}_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${BoringSSL_INCLUDE_DIR}
      INTERFACE_LINK_OPTIONS "-Wl,-rpath,${BoringSSL_LIBRARY_DIR}")
  endforeach()
  set_property(TARGET BoringSSL::ssl APPEND PROPERTY INTERFACE_LINK_LIBRARIES BoringSSL::crypto)
endif()
